"""The gateway on a real socket, before scripted services on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from common.testing import RevocationList, Tokens, listening
from gateway.app import build
from gateway.settings import Settings

from .process import GatewayProcess, RawService, gateway_process, raw_service

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read_body(receive: Receive) -> bytes:
    """A request's whole body, or what came of it before the client left."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def reply(send: Send, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    """A whole reply; `body` is sent as JSON."""
    sent = {"content-type": "application/json", **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def piece(text: bytes, *, more: bool = True) -> Message:
    """One message of a streamed reply."""
    return {"type": "http.response.body", "body": text, "more_body": more}


class ScriptedService:
    """Plays auth, coach and admin: keeps what it was sent, and replies to routed paths with what `answer` does."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.answer: Answer = self.echo
        self.requests: list[Scope] = []
        self.key_fetches = 0
        self.openapi: dict[str, Any] = {"paths": {}}
        self.is_ready = True
        self.revoked = RevocationList()
        self.tells_revoked = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["path"] == "/.well-known/jwks.json":
            self.key_fetches += 1
            await reply(send, 200, {"keys": [self._tokens.public_jwk()]})
        elif scope["path"] == "/internal/token":
            signed = self._tokens.service("gateway", "auth", "auth:revocations")
            await reply(send, 200, {"access_token": signed, "expires_in": 600})
        elif scope["path"] == "/internal/revocations":
            since = scope["query_string"].decode().removeprefix("since=")
            await reply(send, 200 if self.tells_revoked else 503, self.revoked.since(since))
        elif scope["path"] == "/openapi.json":
            await reply(send, 200, self.openapi)
        elif scope["path"] == "/readyz":
            await reply(send, 200 if self.is_ready else 503, {})
        else:
            self.requests.append(scope)
            await self.answer(scope, receive, send)

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say what arrived."""
        body = (await read_body(receive)).decode()
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        await reply(send, 200, {"method": scope["method"], "target": target.decode(), "body": body})

    def headers(self) -> dict[str, str]:
        """What the newest request said."""
        return {name.decode(): value.decode() for name, value in self.requests[-1]["headers"]}

    @staticmethod
    async def _lifespan(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


class OpenGateway(Protocol):
    def __call__(self, **settings: Any) -> Awaitable[httpx.AsyncClient]: ...


@pytest.fixture
async def service(tokens: Tokens) -> ScriptedService:
    """What stands behind the gateway."""
    return ScriptedService(tokens)


@pytest.fixture
async def service_url(service: ScriptedService) -> AsyncIterator[str]:
    async with listening(service) as url:
        yield url


@pytest.fixture
async def open_gateway(service_url: str, redis_urls: dict[str, str]) -> AsyncIterator[OpenGateway]:
    """Starts a gateway whose settings differ from the defaults as told; stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> httpx.AsyncClient:
            defaults = {
                "env": "development",
                "state_redis_url": SecretStr(redis_urls["state"]),
                "client_secret": SecretStr("gateway-secret-of-the-tests"),
                "auth_url": service_url,
                "coach_url": service_url,
                "admin_url": service_url,
            }
            url = await stack.enter_async_context(listening(build(Settings(**{**defaults, **changes}))))
            return await stack.enter_async_context(httpx.AsyncClient(base_url=url))

        yield start


@pytest.fixture
async def gateway(open_gateway: OpenGateway, clean_redis: None) -> httpx.AsyncClient:
    """A client of a gateway with default settings."""
    return await open_gateway()


@pytest.fixture
def signed_in(tokens: Tokens) -> dict[str, str]:
    """Headers of a player nobody else is."""
    return tokens.headers()


@asynccontextmanager
async def connected(client: httpx.AsyncClient) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to the gateway, for what httpx would never send."""
    address = urlsplit(str(client.base_url))
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """The beginning of a request, as bytes."""
    lines = [f"{method} {target} HTTP/1.1", "host: gateway.test", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def read_head(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and header lines of a reply."""
    text = (await reader.readuntil(b"\r\n\r\n")).decode()
    return int(text.split()[1]), text.lower()


@pytest.fixture(scope="session")
async def raw_coach() -> AsyncIterator[RawService]:
    """A coach that does what the test says."""
    async with raw_service() as service:
        yield service


@pytest.fixture(scope="session")
async def raw_admin() -> AsyncIterator[RawService]:
    """Another service, which must not suffer when coach does."""
    async with raw_service() as service:
        yield service


@pytest.fixture(scope="module")
async def process(
    auth_url: str, raw_coach: RawService, raw_admin: RawService, redis_urls: dict[str, str]
) -> AsyncIterator[GatewayProcess]:
    """A gateway process between sockets of ours, with limits that no test reaches."""
    async with gateway_process(
        state_redis_url=redis_urls["state"], auth_url=auth_url, coach_url=raw_coach.url, admin_url=raw_admin.url
    ) as gateway:
        yield gateway
