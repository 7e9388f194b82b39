"""Clients of ours that get tokens with a secret (RFC 6749 §4.4); what each may ask for is in `clients.json`."""

import hashlib
import hmac
from collections.abc import Mapping
from importlib.resources import files

from pydantic import SecretStr, TypeAdapter
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, delete
from sqlmodel.ext.asyncio.session import AsyncSession

from auth.models import ServiceClient
from auth.shapes import ServiceToken, TokenRequest
from auth.tokens import TokenIssuer
from common.db import Sessions, utc_now
from common.errors import BadRequestError, Text, UnauthorizedError

# client id -> audience -> scopes
_ALLOWED = TypeAdapter(dict[str, dict[str, list[str]]]).validate_json(
    files("auth").joinpath("clients.json").read_bytes()
)


class InvalidClientError(UnauthorizedError):
    code = "invalid_client"
    title = Text("Unknown client or wrong secret", "알 수 없는 클라이언트이거나 비밀 값이 올바르지 않습니다")


class UnsupportedGrantTypeError(BadRequestError):
    code = "unsupported_grant_type"
    title = Text("Only client_credentials is supported here", "client_credentials 방식만 지원합니다")


class InvalidTargetError(BadRequestError):
    """The word is RFC 8707's."""

    code = "invalid_target"
    title = Text("This client may not call that audience", "이 클라이언트가 호출할 수 없는 대상입니다")


class InvalidScopeError(BadRequestError):
    code = "invalid_scope"
    title = Text("This client may not have that scope", "이 클라이언트에 허용되지 않은 범위입니다")


def own_scope(audience: str) -> str:
    """What auth itself may do at another service; it needs no secret for its own tokens."""
    return " ".join(_ALLOWED["auth"][audience])


async def store_secrets(session: AsyncSession, secrets: Mapping[str, SecretStr]) -> None:
    """Make the table say what the environment says; raises ValueError for a client we do not know."""
    if unknown := secrets.keys() - _ALLOWED.keys():
        raise ValueError(f"DUGOUT_SERVICE_SECRETS names unknown clients: {', '.join(sorted(unknown))}")
    await session.exec(delete(ServiceClient).where(col(ServiceClient.client_id).not_in(secrets)))
    # Always in the same order: two processes starting together must not wait for each other in a circle.
    for client_id, secret in sorted(secrets.items()):
        values = {"secret_hash": _digest(secret), "updated_at": utc_now()}
        upsert = insert(ServiceClient).values(client_id=client_id, **values)
        await session.exec(upsert.on_conflict_do_update(index_elements=["client_id"], set_=values))


async def grant_token(asked: TokenRequest, sessions: Sessions, issuer: TokenIssuer) -> ServiceToken:
    """A token for a client that knows its secret, or one of the errors above."""
    if asked.grant_type != "client_credentials":
        raise UnsupportedGrantTypeError
    if asked.client_id not in _ALLOWED:
        raise InvalidClientError
    async with sessions() as session:
        client = await session.get(ServiceClient, asked.client_id)
    if client is None or not hmac.compare_digest(client.secret_hash, _digest(asked.client_secret)):
        raise InvalidClientError
    scope = _granted_scope(asked)
    return issuer.for_service(asked.client_id, asked.audience, scope)


def _granted_scope(asked: TokenRequest) -> str:
    allowed = _ALLOWED[asked.client_id].get(asked.audience)
    if allowed is None:
        raise InvalidTargetError
    scopes = allowed if asked.scope is None else asked.scope.split()
    if not scopes or not set(scopes) <= set(allowed):
        raise InvalidScopeError
    return " ".join(dict.fromkeys(scopes))


def _digest(secret: SecretStr) -> bytes:
    # Secrets are made by a machine from enough random bits, so there is nothing for a slow password hash to slow down,
    # and services may ask often.
    return hashlib.sha256(secret.get_secret_value().encode()).digest()
