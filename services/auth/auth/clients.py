"""Calls to the services that hold something of a person: what is there, and its erasure."""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from types import NoneType
from uuid import UUID

import httpx
from pydantic import BaseModel, JsonValue

from auth import service_clients
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.http import call, http_client

# What the records of each service are called in an export. rag is not among them: coach answers for what its caches
# hold, since it alone knows for whom a cached answer was made.
RECORDS = {"coach": "answers", "worker": "uploads", "admin": "changes"}


class ExportPage(BaseModel):
    """Some of a person's records, in whatever shape the service gives them; `next_cursor` is null on the last page."""

    records: list[dict[str, JsonValue]]
    next_cursor: str | None


class Holder:
    """A service that holds records of persons; failures are those of `common.http.call`."""

    def __init__(self, name: str, http: httpx.AsyncClient) -> None:
        self.name = name
        self._http = http

    async def export_page(self, user_id: UUID, cursor: str | None = None) -> ExportPage:
        """A page of what the service keeps of a person."""
        params = {"cursor": cursor} if cursor else {}
        return await call(self._http, "GET", f"/internal/users/{user_id}/export", ExportPage, params=params)

    async def erase(self, user_id: UUID, pseudonym: UUID, *, within_seconds: float) -> None:
        """Put a pseudonym in the place of a person; may be repeated. Raises TimeoutError too."""
        body, path = {"pseudonym": str(pseudonym)}, f"/internal/users/{user_id}/erase"
        async with asyncio.timeout(within_seconds):
            await call(self._http, "POST", path, NoneType, json=body, timeout=within_seconds)


class _OwnToken(httpx.Auth):
    """Auth's own service token, signed on the spot: asking itself over HTTP would only add a way to fail."""

    def __init__(self, issuer: TokenIssuer, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Add the bearer token."""
        scope = service_clients.own_scope(self._audience)
        token = self._issuer.for_service("auth", self._audience, scope)
        request.headers["Authorization"] = f"Bearer {token.access_token}"
        yield request


@asynccontextmanager
async def open_holders(settings: Settings, issuer: TokenIssuer) -> AsyncIterator[list[Holder]]:
    """All services that hold records of persons."""
    urls = {"coach": settings.coach_url, "worker": settings.worker_url, "admin": settings.admin_url}
    async with AsyncExitStack() as stack:
        yield [
            Holder(name, await stack.enter_async_context(http_client(urls[name], auth=_OwnToken(issuer, name))))
            for name in RECORDS
        ]
