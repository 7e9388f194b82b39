"""What auth's API takes and gives; `ops_shapes.py` has what ops ask."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from auth.models import Locale
from common.claims import Plan, Role


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
    id_token: str = Field(min_length=1, max_length=8192, repr=False)
    nonce: str | None = Field(default=None, min_length=1, max_length=512, repr=False)


class DevLogin(_Body):
    """Sign-in as anyone; `role` and `plan`, if given, are set on the account."""

    email: str = Field(max_length=LONGEST_EMAIL, pattern=EMAIL)
    role: Role | None = None
    plan: Plan | None = None


class Refresh(_Body):
    """A refresh token to be exchanged."""

    refresh_token: _OpaqueToken = Field(repr=False)


class Logout(_Body):
    """Ends the session of this refresh token, or with `everywhere` all sessions of its owner."""

    refresh_token: _OpaqueToken = Field(repr=False)
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

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme, not a secret
    expires_in: int
    user: UserPublic


class TokenRequest(BaseModel):
    """RFC 6749 §4.4.2 with RFC 8707's audience; without `scope` all that the client may have is meant."""

    grant_type: str = Field(min_length=1)
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)
    audience: str = Field(min_length=1)
    scope: str | None = Field(default=None, min_length=1)


class ServiceToken(BaseModel):
    """RFC 6749 §5.1; `scope` names what was granted."""

    access_token: str = Field(repr=False)
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
