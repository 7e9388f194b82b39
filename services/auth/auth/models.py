"""Tables of schema `auth`."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

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

    __table_args__ = (Index(None, "at", "id"),)

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
