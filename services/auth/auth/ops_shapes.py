"""Shapes of what ops ask about signing keys and accounts."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from auth.models import KeyState, Locale, Status
from common.claims import Plan, Role

# Postgres text holds no NUL, and no other control character belongs into a word that somebody looks for.
_Words = Annotated[str, StringConstraints(min_length=1, max_length=254, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class SigningKeyPublic(BaseModel):
    """A signing key without its private half: `signs_from` while it waits, `kept_until` once it has signed."""

    kid: str
    state: KeyState
    since: datetime
    signs_from: datetime | None
    kept_until: datetime | None


class KeyList(BaseModel):
    """All signing keys, oldest first."""

    keys: list[SigningKeyPublic]


class UserSearch(BaseModel):
    """Which accounts to list; in a body and not in an address, which proxies and traces write down."""

    model_config = ConfigDict(extra="forbid")

    id: UUID | None = None
    email: _Words | None = Field(default=None, repr=False, description="How the address begins")
    name: _Words | None = Field(default=None, repr=False, description="A part of the name")
    role: Role | None = None
    plan: Plan | None = None
    status: Status | None = None
    cursor: UUID | None = None
    limit: int = Field(default=50, ge=1, le=200)


class UserEntry(BaseModel):
    """An account, as ops see it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    issuer: str
    email: str | None = Field(repr=False)
    name: str | None = Field(repr=False)
    locale: Locale | None
    role: Role
    plan: Plan
    status: Status
    created_at: datetime
    last_login_at: datetime


class UserPage(BaseModel):
    """Accounts, newest first; `next_cursor` is null on the last page."""

    users: list[UserEntry]
    next_cursor: UUID | None


class UserSession(BaseModel):
    """A session that can still be refreshed."""

    sid: UUID
    created_at: datetime
    last_used_at: datetime


class AuditEntry(BaseModel):
    """Something that was done to an account, by a person (their id), by itself, or by auth's environment."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


class UserDetail(UserEntry):
    """An account with its live sessions and the newest entries about it, newest first."""

    sessions: list[UserSession]
    audit: list[AuditEntry]


class UserChange(BaseModel):
    """What to change; a change of `status` needs a reason."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    plan: Plan | None = None
    status: Status | None = None
    reason: _Reason | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "UserChange":
        if self.role is None and self.plan is None and self.status is None:
            raise ValueError("name a role, a plan or a status")
        if self.status and not self.reason:
            raise ValueError("give a reason for the new status")
        return self

    def wanted(self) -> dict[str, str]:
        """The new values by field."""
        return self.model_dump(include={"role", "plan", "status"}, exclude_none=True)


class SignOut(BaseModel):
    """Ends all sessions of an account."""

    model_config = ConfigDict(extra="forbid")

    reason: _Reason | None = None


class SignedOut(BaseModel):
    """How many sessions ended."""

    sessions: int
