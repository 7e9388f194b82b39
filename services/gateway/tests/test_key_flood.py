"""Tokens that name made-up keys, many of them, at a gateway process: auth hardly notices."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from itertools import chain

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from common.testing import Tokens, auth_standin
from standins.server import serve

from .process import GatewayProcess, gateway_process

FLOOD = 1000
AT_ONCE = 50
PATH = "/api/coach/games"


class Counted:
    """An app, and how often each path of it was asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.asked: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked[scope.get("path", "lifespan")] += 1
        await self._app(scope, receive, send)


def naming(key_id: str, token: str) -> str:
    """`token`, saying of another key that it signed it."""
    header = json.dumps({"alg": "RS256", "typ": "JWT", "kid": key_id}, separators=(",", ":")).encode()
    return ".".join([base64.urlsafe_b64encode(header).decode().rstrip("="), *token.split(".")[1:]])


@pytest.fixture
def auth(tokens: Tokens) -> Counted:
    return Counted(auth_standin(tokens))


@pytest.fixture
async def gateway(auth: Counted, redis_urls: dict[str, str]) -> AsyncIterator[GatewayProcess]:
    with serve(auth) as server:
        told = {"state_redis_url": redis_urls["state"], "auth_url": server.url, "coach_url": server.url}
        async with gateway_process(**told) as gateway:
            yield gateway


async def test_a_thousand_unknown_keys_cause_no_second_fetch(
    gateway: GatewayProcess, auth: Counted, tokens: Tokens
) -> None:
    before = auth.asked["/.well-known/jwks.json"]
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=gateway.url, limits=limits, timeout=30) as client:

        async def status(**headers: str) -> int:
            return (await client.get(PATH, headers=headers)).status_code

        good = tokens.player()
        forged = [naming(f"made-up-{number}", good) for number in range(FLOOD)]

        async def send(tokens: list[str]) -> list[int]:
            return [await status(authorization=f"Bearer {token}") for token in tokens]

        sent = await asyncio.gather(*(send(forged[sender::AT_ONCE]) for sender in range(AT_ONCE)))
        assert Counter(chain(*sent)) == {401: FLOOD}
        assert auth.asked["/.well-known/jwks.json"] - before <= 1
        assert await status(**tokens.headers()) == 404, "who is signed in still comes through"
