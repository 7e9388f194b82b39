"""Shapes of what ops see and change of auth's: users and signing keys."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from common.claims import Plan, Role

Status = Literal["active", "banned"]

_Words = Annotated[str, StringConstraints(min_length=1, max_length=254, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="Kept in the audit, so it names nobody"),
]


class UserSearch(BaseModel):
    """Which users to list: all that match everything given."""

    model_config = ConfigDict(extra="forbid")

    id: UUID | None = None
    email: _Words | None = Field(default=None, repr=False, description="How the address begins")
    name: _Words | None = Field(default=None, repr=False, description="A part of the name")
    role: Role | None = None
    plan: Plan | None = None
    status: Status | None = None
    cursor: UUID | None = Field(default=None, description="The page before's `next_cursor`")
    limit: int = Field(default=50, ge=1, le=200)


class UserEntry(BaseModel):
    """A user."""

    id: UUID
    issuer: str
    email: str | None = Field(repr=False)
    name: str | None = Field(repr=False)
    locale: str | None
    role: Role
    plan: Plan
    status: Status
    created_at: datetime
    last_login_at: datetime


class UserPage(BaseModel):
    """Users, newest first; `next_cursor` is null on the last page."""

    users: list[UserEntry]
    next_cursor: UUID | None


class UserSession(BaseModel):
    """A session that can still be refreshed."""

    sid: UUID
    created_at: datetime
    last_used_at: datetime


class UserAudit(BaseModel):
    """Something that was done to a user: by a person, whose id `actor` is, or by auth itself."""

    id: UUID
    at: datetime
    actor: str
    action: str
    detail: dict[str, JsonValue]


class UserDetail(UserEntry):
    """A user with their live sessions and their history, newest first."""

    sessions: list[UserSession]
    audit: list[UserAudit]

    def rights(self) -> dict[str, str]:
        """What a change may change."""
        return {"role": self.role, "plan": self.plan, "status": self.status}


class UserChange(BaseModel):
    """What to change; a change of `status` needs a reason."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    plan: Plan | None = None
    status: Status | None = None
    reason: _Reason | None = None


class SignOut(BaseModel):
    """Ends all sessions of a user."""

    model_config = ConfigDict(extra="forbid")

    reason: _Reason | None = None


class SignedOut(BaseModel):
    """How many sessions ended."""

    sessions: int


class Erasure(BaseModel):
    """How far an erasure is: `done` once every service has carried it out."""

    id: UUID
    state: Literal["pending", "done"]
    services: dict[str, Literal["pending", "done"]]
    requested_at: datetime
    finished_at: datetime | None


class SigningKey(BaseModel):
    """A key that signs tokens, without its private half.

    `next` is published and signs from `signs_from`; `active` signs; `retired` is kept until the last token it signed
    has expired.
    """

    kid: str
    state: Literal["next", "active", "retired"]
    since: datetime
    signs_from: datetime | None
    kept_until: datetime | None


class KeyList(BaseModel):
    """All signing keys, oldest first."""

    keys: list[SigningKey]
