"""Tests of `gateway.server` and `python -m gateway`: told to stop, it cuts nobody off who can still be served."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from common.redis import redis_client
from common.testing import Tokens

from .process import GatewayProcess, RawService, connection, gateway_process, raw_service

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GAMES = "/api/coach/games"


class Answering:
    """A coach whose reply begins at once and ends when told."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            return
        writer.write(STREAM + b"7\r\nfirst\n\n\r\n")
        await self.end.wait()
        writer.write(b"6\r\nlast\n\n\r\n0\r\n\r\n")
        await writer.drain()


@pytest.fixture
async def answering() -> Answering:
    return Answering()


@pytest.fixture
async def coach(answering: Answering) -> AsyncIterator[RawService]:
    async with raw_service() as service:
        service.handler = answering
        yield service


@pytest.fixture
def started(coach: RawService, auth_url: str, redis_urls: dict[str, str]):  # type: ignore[no-untyped-def]
    """Settings of a gateway before `coach`."""
    return {
        "state_redis_url": redis_urls["state"],
        "auth_url": auth_url,
        "coach_url": coach.url,
        "admin_url": coach.url,
    }


async def test_told_to_stop_it_says_so_still_answers_and_lets_streams_finish(
    started: dict[str, str], answering: Answering, tokens: Tokens
) -> None:
    async with gateway_process(**started, drain_seconds=1.0) as gateway:
        async with (
            connection(gateway.port) as (idle, _),
            httpx.AsyncClient(base_url=gateway.url, headers=tokens.headers()) as client,
            stream_of(gateway, tokens) as pieces,
        ):
            assert (await client.get(GAMES)).headers.get("connection") != "close"
            gateway.signal()
            ready = await not_ready(client)
            assert ready.json()["status"] == "draining"
            assert ready.headers["x-request-id"]
            still = await client.get(GAMES)
            assert (still.text, still.headers["connection"]) == ("ok", "close")
            assert (await client.get("/healthz")).status_code == 200
            await listener_closed(gateway)
            assert await asyncio.wait_for(idle.read(), 2) == b""
            assert (await gateway.metrics())['gateway_upstream_in_flight{service="coach"}'] == 1.0
            answering.end.set()
            assert [piece async for piece in pieces] == [b"last\n\n"]
        assert await gateway.ended(5) == 0


async def test_a_stream_without_end_is_cut_when_its_time_is_over_and_costs_nothing(
    started: dict[str, str], tokens: Tokens, clean_redis: None
) -> None:
    async with gateway_process(**started, shutdown_seconds=1) as gateway:
        async with stream_of(gateway, tokens) as pieces:
            gateway.signal()
            with pytest.raises(httpx.RemoteProtocolError):  # nobody may take it for whole
                await anext(pieces)
        assert await gateway.ended(5) == 0
    async with redis_client(started["state_redis_url"]) as redis:
        [quota] = await redis.keys("gateway:limit:questions_per_day:*")
        assert await redis.get(quota) == b"0"


async def test_a_second_signal_quits(started: dict[str, str], tokens: Tokens) -> None:
    async with gateway_process(**started, drain_seconds=60.0) as gateway:
        async with stream_of(gateway, tokens) as pieces:
            gateway.signal()
            async with httpx.AsyncClient(base_url=gateway.url) as client:
                await not_ready(client)
            gateway.signal()
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(pieces)
        assert await gateway.ended(3) == 0


async def not_ready(client: httpx.AsyncClient) -> httpx.Response:
    """The first 503 of /readyz; a request may be read before a signal sent just before it."""
    async with asyncio.timeout(0.9):
        while (ready := await client.get("/readyz")).status_code == 200:
            pass
    assert ready.status_code == 503
    return ready


@asynccontextmanager
async def stream_of(gateway: GatewayProcess, tokens: Tokens) -> AsyncIterator[AsyncIterator[bytes]]:
    """The pieces of a stream after the first."""
    async with (
        httpx.AsyncClient(base_url=gateway.url, headers=tokens.headers()) as client,
        client.stream("POST", "/api/coach/ask", json={}) as answer,
    ):
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"first\n\n"
        yield pieces


async def listener_closed(gateway: GatewayProcess) -> None:
    """Return when nobody can connect any more."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.05)
    pytest.fail("it still listens")
