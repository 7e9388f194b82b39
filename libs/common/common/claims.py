"""A token as auth writes it, and nothing else: its form, its signature, and the claims in it."""

import json
import re
from typing import Annotated, Literal
from uuid import UUID

from jose import JOSEError, jws
from jose.backends.base import Key
from jose.utils import base64url_decode, base64url_encode
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from common.errors import Text, UnauthorizedError
from common.public_keys import ALGORITHM

LONGEST_TOKEN = 4096
# jose would skip what is no base64url, and take padding.
_THREE_SEGMENTS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)

Role = Literal["player", "viewer", "admin"]
Plan = Literal["free", "premium"]


class InvalidTokenError(UnauthorizedError):
    """For every way to be wrong the same words: whoever tries learns nothing from them."""

    def __init__(self) -> None:
        super().__init__(Text("The token is not valid", "토큰이 올바르지 않습니다"))


def _canonical(value: str) -> str:
    """A UUID in its one usual spelling, since it is compared as text; raises ValueError."""
    if str(UUID(value)) != value:
        raise ValueError("not the usual spelling of a UUID")
    return value


_Id = Annotated[str, AfterValidator(_canonical)]


class _Claims(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    iss: str
    aud: str
    iat: int
    nbf: int
    exp: int
    jti: str


class PlayerClaims(_Claims):
    """Claims of a person's access token; `epoch` counts that user's revocations."""

    typ: Literal["access"]
    sub: _Id
    role: Role
    plan: Plan
    sid: _Id
    # Below the number with which auth ends a session.
    epoch: Annotated[int, Field(ge=0, lt=2**31 - 1)]
    locale: str | None = None


class ServiceClaims(_Claims):
    """Claims of a client-credentials token; `scope` is a space-separated list."""

    typ: Literal["service"]
    sub: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    scope: str


Claims = PlayerClaims | ServiceClaims
_CLAIMS: TypeAdapter[Claims] = TypeAdapter(Annotated[Claims, Field(discriminator="typ")])


def key_id(token: str) -> str:
    """The `kid` of a token whose header says what auth writes there and no more; raises InvalidTokenError."""
    if len(token) > LONGEST_TOKEN or not _THREE_SEGMENTS.fullmatch(token):
        raise InvalidTokenError
    head, _, signature = token.encode().split(b".")
    try:
        header = json.loads(base64url_decode(head))
        # The last character has spare bits: one token could be written in many ways.
        is_canonical = base64url_encode(base64url_decode(signature)) == signature
    except (ValueError, RecursionError) as error:
        raise InvalidTokenError from error
    named = header.get("kid") if isinstance(header, dict) else None
    if not is_canonical or not isinstance(named, str) or header != {"alg": ALGORITHM, "typ": "JWT", "kid": named}:
        raise InvalidTokenError
    return named


def signed_claims(token: str, key: Key) -> Claims:
    """The claims that `key` signed; raises InvalidTokenError. For whom and for when they are is not looked at."""
    try:
        # Not jose's `jwt.decode`: to it a claim of the wrong type is a bug of its own.
        return _CLAIMS.validate_json(jws.verify(token, key, [ALGORITHM]))
    except (JOSEError, ValidationError) as error:
        raise InvalidTokenError from error
