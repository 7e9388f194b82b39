"""Tables of schema `auth`, and the shapes of its requests and replies."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints
from pydantic import Field as BodyField
from sqlalchemy import CheckConstraint, DateTime, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from common.claims import Plan, Role
from common.db import schema_registry, utc_now, uuid7

Status = Literal["active", "banned"]
Locale = Literal["ko", "en"]
# `next` is published but signs nothing yet; `retired` signs nothing any more but its tokens still verify.
KeyState = Literal["next", "active", "retired"]

Moment = DateTime(timezone=True)


class AuthTable(SQLModel, registry=schema_registry("auth")):
    """Base of every table here."""


class User(AuthTable, table=True):
    """A person, who is one account at one issuer: the e-mail address is shown to ops and never identifies."""

    __table_args__ = (
        UniqueConstraint("issuer", "subject"),
        # For looking somebody up by how their address begins.
        Index(None, "email", postgresql_ops={"email": "text_pattern_ops"}),
        CheckConstraint("role IN ('player', 'viewer', 'admin')", name="role"),
        CheckConstraint("plan IN ('free', 'premium')", name="plan"),
        CheckConstraint("status IN ('active', 'banned')", name="status"),
    )

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    issuer: str
    subject: str
    email: str | None = None
    name: str | None = None
    locale: Locale | None = Field(default=None, sa_type=String)
    role: Role = Field(default="player", sa_type=String)
    plan: Plan = Field(default="free", sa_type=String)
    status: Status = Field(default="active", sa_type=String)
    # Counts revocations: access tokens that carry a lower number are void.
    epoch: int = 0
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    last_login_at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class RefreshToken(AuthTable, table=True):
    """One link of a family: all tokens descending from one sign-in share `family`, the `sid` of access tokens."""

    __tablename__ = "refresh_token"
    __table_args__ = (Index(None, "family"), Index(None, "user_id"), Index(None, "expires_at"))

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    user_id: UUID = Field(foreign_key="auth.user.id", ondelete="CASCADE")
    family: UUID
    token_hash: bytes = Field(sa_type=LargeBinary, unique=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    expires_at: datetime = Field(sa_type=Moment)
    used_at: datetime | None = Field(default=None, sa_type=Moment)
    revoked_at: datetime | None = Field(default=None, sa_type=Moment)


class SigningKey(AuthTable, table=True):
    """A key pair that signs access tokens; the private half is encrypted."""

    __tablename__ = "signing_key"
    __table_args__ = (
        CheckConstraint("state IN ('next', 'active', 'retired')", name="state"),
        Index("uq_signing_key_active", "state", unique=True, postgresql_where=text("state = 'active'")),
        Index("uq_signing_key_next", "state", unique=True, postgresql_where=text("state = 'next'")),
    )

    kid: str = Field(primary_key=True)
    public_jwk: dict[str, Any] = Field(sa_type=JSONB)
    private_key: bytes = Field(sa_type=LargeBinary)
    state: KeyState = Field(sa_type=String)
    state_since: datetime = Field(default_factory=utc_now, sa_type=Moment)
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class Revocation(AuthTable, table=True):
    """Access tokens of session `sid` with an epoch below `epoch` are void; needed as long as such a token may live.

    By session and not by user, so that nothing here names a person who has been erased.
    """

    __table_args__ = (Index(None, "at"),)

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    sid: UUID
    epoch: int
    at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class Erasure(AuthTable, table=True):
    """A person's erasure from every service; its id is the receipt, so it must not be guessable.

    `sealed` says, encrypted, who it is, as long as there is something left to do.
    """

    __table_args__ = (Index(None, "due_at", postgresql_where=text("sealed IS NOT NULL")),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    services: dict[str, str] = Field(sa_type=JSONB)
    sealed: bytes | None = Field(default=None, sa_type=LargeBinary)
    attempts: int = 0
    requested_at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    due_at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


class ErasedIdentity(AuthTable, table=True):
    """A keyed hash of the issuer and subject of an erased account: a ban outlasts the erasure."""

    __tablename__ = "erased_identity"

    digest: bytes = Field(sa_type=LargeBinary, primary_key=True)
    banned: bool
    at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class ServiceClient(AuthTable, table=True):
    """A service of ours that may ask for tokens."""

    __tablename__ = "service_client"

    client_id: str = Field(primary_key=True)
    secret_hash: bytes = Field(sa_type=LargeBinary)
    updated_at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class Audit(AuthTable, table=True):
    """Who did what to whom, and when. Holds ids only, never an address or a token."""

    __table_args__ = (Index(None, "subject", "at"), Index(None, "actor"))

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


EMAIL = r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$"
LONGEST_EMAIL, LONGEST_NAME = 254, 80
# Postgres text holds no NUL, and no other control character belongs into a name or an address either.
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
_Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=LONGEST_NAME, pattern=_PRINTABLE)]
_OpaqueToken = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class GoogleLogin(_Body):
    """Sign-in with a Google ID token; `nonce` is the one the client sent to Google, if it sent one."""

    # Google's are about 1.2 kB.
    id_token: str = BodyField(min_length=1, max_length=8192, repr=False)
    nonce: str | None = BodyField(default=None, min_length=1, max_length=512, repr=False)


class DevLogin(_Body):
    """Sign-in as anyone; `role` and `plan`, if given, are set on the account."""

    email: str = BodyField(max_length=LONGEST_EMAIL, pattern=EMAIL)
    role: Role | None = None
    plan: Plan | None = None


class Refresh(_Body):
    """A refresh token to be exchanged."""

    refresh_token: _OpaqueToken = BodyField(repr=False)


class Logout(_Body):
    """Ends the session of this refresh token, or with `everywhere` all sessions of its owner."""

    refresh_token: _OpaqueToken = BodyField(repr=False)
    everywhere: bool = False


class LogoutDone(BaseModel):
    """Says which sessions ended."""

    ended: Literal["session", "everywhere"]


class UserPublic(BaseModel):
    """A user, as shown to themselves."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str | None
    name: str | None
    locale: Locale | None
    role: Role
    plan: Plan


class UserUpdate(_Body):
    """What users may change about themselves; null clears, absent keeps."""

    name: _Name | None = None
    locale: Locale | None = None


class SignedIn(BaseModel):
    """Reply to every sign-in and refresh."""

    access_token: str = BodyField(repr=False)
    refresh_token: str = BodyField(repr=False)
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme, not a secret
    expires_in: int
    user: UserPublic


class TokenRequest(BaseModel):
    """RFC 6749 §4.4.2 with RFC 8707's audience; without `scope` all that the client may have is meant."""

    grant_type: str = BodyField(min_length=1)
    client_id: str = BodyField(min_length=1)
    client_secret: SecretStr = BodyField(min_length=1)
    audience: str = BodyField(min_length=1)
    scope: str | None = BodyField(default=None, min_length=1)


class ServiceToken(BaseModel):
    """RFC 6749 §5.1; `scope` names what was granted."""

    access_token: str = BodyField(repr=False)
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme, not a secret
    expires_in: int
    scope: str


class JWKSet(BaseModel):
    """RFC 7517 §5."""

    keys: list[dict[str, Any]]


class Stats(BaseModel):
    """Counts for ops."""

    players: int
    premium: int
    premium_share: float
