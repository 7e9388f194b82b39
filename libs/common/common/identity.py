"""Who is calling: bearer tokens verified the same way in every service, roles, and scopes of services."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from common.claims import Claims, InvalidTokenError, Plan, PlayerClaims, Role, ServiceClaims, key_id, signed_claims
from common.errors import ForbiddenError, UnauthorizedError
from common.http import ACTOR_REFUSED_HEADER
from common.public_keys import KeySource, PublicKeys
from common.revocations import Revocations, RevokedError

PLAYER_AUDIENCE = "dugout"
ACTOR_HEADER = "Dugout-Actor-Token"
# Auth signs for an hour at most, and forgets a revocation when no token that it voids can be left.
LONGEST_LIFETIME_SECONDS = 3600
LEEWAY_SECONDS = 30
REMEMBERED_TOKENS = 20_000


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
        self._issuer = issuer
        self._audience = audience
        self.revocations = revocations
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        # What a key that somebody stole has signed must not be remembered for longer than the key.
        self.keys = PublicKeys(fetch_keys, on_dropped=self._verified.clear)

    async def verify(self, token: str) -> Claims:
        """The claims of `token`.

        Raises UnauthorizedError; UnavailableError when the token's key cannot be asked for, when the revocations could
        never be read, and for staff when they are out of date.
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

    def remembers(self, token: str) -> bool:
        """Whether the signature of `token` was found right before, and need not be checked again."""
        known = self._verified.get(hashlib.sha256(token.encode()).digest())
        return known is not None and known.exp > time.time()

    async def _genuine(self, token: str) -> Claims:
        digest = hashlib.sha256(token.encode()).digest()
        # A remembered token needs no key, and must end with it all the same when auth drops it.
        self.keys.refresh_if_due()
        if known := self._verified.get(digest):
            if known.exp > time.time():
                return known
            del self._verified[digest]
        claims = await self._verify_anew(token)
        self._verified[digest] = claims
        if len(self._verified) > REMEMBERED_TOKENS:
            self._verified.popitem(last=False)
        return claims

    async def _verify_anew(self, token: str) -> Claims:
        key = await self.keys.get(key_id(token))
        if key is None:
            raise InvalidTokenError
        claims = signed_claims(token, key)
        if not self._accepts(claims):
            raise InvalidTokenError
        return claims

    def _accepts(self, claims: Claims) -> bool:
        """Whether what auth signed is meant for us, and for now."""
        audience = PLAYER_AUDIENCE if isinstance(claims, PlayerClaims) else self._audience
        now = time.time()
        return (
            (claims.iss, claims.aud) == (self._issuer, audience)
            and max(claims.iat, claims.nbf) <= now + LEEWAY_SECONDS
            and claims.exp >= now - LEEWAY_SECONDS
            and claims.exp - claims.iat <= LONGEST_LIFETIME_SECONDS
        )


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
    try:
        return await _user(request, request.headers.get(ACTOR_HEADER, ""))
    except UnauthorizedError as error:
        error.headers[ACTOR_REFUSED_HEADER] = "true"
        raise


async def _user(request: Request, token: str) -> User:
    claims = await request.state.verifier.verify(token)
    if not isinstance(claims, PlayerClaims):
        raise InvalidTokenError
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
        return _with_role(user, roles)

    return check


def require_acting_role(*roles: Role) -> Callable[[User], User]:
    """The same for the person for whom a service calls."""

    def check(user: ActingUser) -> User:
        return _with_role(user, roles)

    return check


def _with_role(user: User, roles: Sequence[Role]) -> User:
    if user.role not in roles:
        raise ForbiddenError
    return user


def require_scope(scope: str) -> Callable[..., Awaitable[Service]]:
    """A dependency that lets only services with `scope` pass; a player's token is refused with 403."""

    async def check(request: Request, _: _BearerDep) -> Service:
        claims = await request.state.verifier.verify(bearer_token(request.headers.get("authorization")))
        if not isinstance(claims, ServiceClaims) or scope not in claims.scope.split():
            raise ForbiddenError
        return Service(client_id=claims.sub, scopes=frozenset(claims.scope.split()))

    return check
