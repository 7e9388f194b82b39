"""Who is calling: bearer tokens verified the same way in every service, roles, and scopes of services."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from jose import JOSEError, jwt
from jose.utils import base64url_decode, base64url_encode
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import ForbiddenError, Text, UnauthorizedError
from common.public_keys import ALGORITHM, KeySource, PublicKeys
from common.revocations import Revocations, RevokedError

PLAYER_AUDIENCE = "dugout"
ACTOR_HEADER = "Dugout-Actor-Token"
LONGEST_TOKEN = 4096
LEEWAY_SECONDS = 30
REMEMBERED_TOKENS = 20_000
_FORBIDDEN_HEADERS = ("crit", "jku", "jwk", "x5u", "x5c")

Role = Literal["player", "viewer", "admin"]
Plan = Literal["free", "premium"]


class _Claims(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    iss: str
    aud: str
    sub: str
    iat: int
    nbf: int
    exp: int
    jti: str


class PlayerClaims(_Claims):
    """Claims of a person's access token; `epoch` counts that user's revocations."""

    typ: Literal["access"]
    role: Role
    plan: Plan
    sid: str
    epoch: int
    locale: str | None = None


class ServiceClaims(_Claims):
    """Claims of a client-credentials token; `scope` is a space-separated list."""

    typ: Literal["service"]
    scope: str


class User(BaseModel):
    """The signed-in person, as the token says."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    role: Role
    plan: Plan
    session_id: str
    locale: str | None = None
    token: str = Field(repr=False, exclude=True)


class Service(BaseModel):
    """The calling service and what it may do."""

    model_config = ConfigDict(frozen=True)

    client_id: str
    scopes: frozenset[str]


class Verifier:
    """Verifies tokens for one service: genuine by auth's public keys, and not revoked.

    That a token is genuine is remembered until it expires; whether it is revoked is looked up every time.
    """

    def __init__(self, *, fetch_keys: KeySource, issuer: str, audience: str, revocations: Revocations) -> None:
        self._keys = PublicKeys(fetch_keys)
        self._issuer = issuer
        self._audience = audience
        self.revocations = revocations
        self._verified: OrderedDict[bytes, PlayerClaims | ServiceClaims] = OrderedDict()

    async def verify(self, token: str) -> PlayerClaims | ServiceClaims:
        """The claims of `token`.

        Raises UnauthorizedError; UnavailableError when the keys or the revocations could never be read, and for staff
        when the revocations are out of date.
        """
        claims = await self._genuine(token)
        if isinstance(claims, PlayerClaims):
            if claims.role == "player":
                await self.revocations.check_known()
            else:
                await self.revocations.check_fresh()
            if self.revocations.voids(claims.sid, claims.epoch):
                raise RevokedError
        return claims

    async def _genuine(self, token: str) -> PlayerClaims | ServiceClaims:
        digest = hashlib.sha256(token.encode()).digest()
        if known := self._verified.get(digest):
            if known.exp > time.time():
                return known
            del self._verified[digest]
        claims = await self._verify_anew(token)
        self._verified[digest] = claims
        if len(self._verified) > REMEMBERED_TOKENS:
            self._verified.popitem(last=False)
        return claims

    async def _verify_anew(self, token: str) -> PlayerClaims | ServiceClaims:
        key = await self._keys.get(_key_id(token))
        if key is None:
            raise _refused()
        try:
            # jose would check `aud` against one value only; ours depends on the token's kind.
            raw = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                options={"verify_aud": False, "leeway": LEEWAY_SECONDS},
            )
            kind = PlayerClaims if raw.get("typ") == "access" else ServiceClaims
            claims = kind.model_validate(raw)
        except (JOSEError, ValidationError) as error:
            raise _refused() from error
        expected = PLAYER_AUDIENCE if isinstance(claims, PlayerClaims) else self._audience
        if claims.aud != expected or claims.iat > time.time() + LEEWAY_SECONDS:
            raise _refused()
        return claims


def _refused() -> UnauthorizedError:
    return UnauthorizedError(Text("The token is not valid", "토큰이 올바르지 않습니다"))


def _key_id(token: str) -> str:
    """The `kid` of a token that is worth a signature check."""
    if len(token) > LONGEST_TOKEN:
        raise _refused()
    try:
        header = jwt.get_unverified_header(token)
    except JOSEError as error:
        raise _refused() from error
    key_id = header.get("kid")
    # The last character has spare bits and padding is ignored: one token could be written in many ways.
    signature = token.rpartition(".")[2].encode()
    if (
        base64url_encode(base64url_decode(signature)) != signature
        or header.get("alg") != ALGORITHM
        or not isinstance(key_id, str)
        or any(name in header for name in _FORBIDDEN_HEADERS)
    ):
        raise _refused()
    return key_id


_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="Access token of POST /auth/…/login")
_BearerDep = Annotated[Any, Depends(_bearer)]


def bearer_token(authorization: str | None) -> str:
    """The token in an `Authorization` header; raises UnauthorizedError."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError
    return token.strip()


async def current_user(request: Request, _: _BearerDep) -> User:
    """The signed-in person; raises UnauthorizedError."""
    return await _user(request, bearer_token(request.headers.get("authorization")))


async def acting_user(request: Request) -> User:
    """The person for whom a service calls, by the token it passes on; raises UnauthorizedError."""
    return await _user(request, request.headers.get(ACTOR_HEADER, ""))


async def _user(request: Request, token: str) -> User:
    claims = await request.state.verifier.verify(token)
    if not isinstance(claims, PlayerClaims):
        raise _refused()
    return User(
        id=UUID(claims.sub),
        role=claims.role,
        plan=claims.plan,
        session_id=claims.sid,
        locale=claims.locale,
        token=token,
    )


CurrentUser = Annotated[User, Depends(current_user)]
ActingUser = Annotated[User, Depends(acting_user)]


def require_role(*roles: Role) -> Callable[[User], User]:
    """A dependency that lets only these roles pass: `Annotated[User, Depends(require_role("admin"))]`."""

    def check(user: CurrentUser) -> User:
        if user.role not in roles:
            raise ForbiddenError
        return user

    return check


def require_scope(scope: str) -> Callable[..., Awaitable[Service]]:
    """A dependency that lets only services with `scope` pass; a player's token is refused with 403."""

    async def check(request: Request, _: _BearerDep) -> Service:
        claims = await request.state.verifier.verify(bearer_token(request.headers.get("authorization")))
        if not isinstance(claims, ServiceClaims) or scope not in claims.scope.split():
            raise ForbiddenError
        return Service(client_id=claims.sub, scopes=frozenset(claims.scope.split()))

    return check
