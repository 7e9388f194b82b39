"""Tests of streams through a gateway process: many at once, each event as it comes, closed when its client leaves."""

import asyncio
import statistics
import struct
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from common.testing import Tokens

from .process import GatewayProcess, RawService, connection, gateway_process, raw_service

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HEARTBEAT = b": heartbeat\n\n"
# Between two tokens of one stream; many streams together make a steady flow.
PAUSE = 0.25


class Teller:
    """A coach that tells `tokens` tokens, each with the time at which it was sent, and a heartbeat between."""

    def __init__(self) -> None:
        self.tokens = 8
        self.streams = 0
        self.left: list[float] = []
        self.all_left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            return
        self.streams += 1
        writer.write(HEAD + chunk(HEARTBEAT))
        gone = asyncio.create_task(hung_up(reader))
        for _ in range(self.tokens):
            await asyncio.wait({gone}, timeout=PAUSE)
            if gone.done():
                self._note_leaving()
                return
            writer.write(
                chunk(b"event: token\ndata: " + struct.pack("!d", time.perf_counter()).hex().encode() + b"\n\n")
            )
        writer.write(b"0\r\n\r\n")
        await gone

    def _note_leaving(self) -> None:
        self.left.append(time.perf_counter())
        if len(self.left) == self.streams:
            self.all_left.set()


async def hung_up(reader: asyncio.StreamReader) -> None:
    """Return when the gateway has closed the connection, politely or not."""
    with suppress(ConnectionResetError):
        await reader.read()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def delays(reader: asyncio.StreamReader) -> list[float]:
    """Seconds from each token's sending to its coming, to the stream's end; heartbeats must have come too."""
    found, heartbeats = [], 0
    while (line := await reader.readline()) != b"0\r\n":
        assert line, "the stream was cut"
        heartbeats += line == b": heartbeat\n"
        if line.startswith(b"data: "):
            (sent,) = struct.unpack("!d", bytes.fromhex(line[6:].decode()))
            found.append(time.perf_counter() - sent)
    assert heartbeats == 1
    return found


def ask(token: dict[str, str]) -> bytes:
    """A question, as bytes."""
    head = "POST /api/coach/ask HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n"
    return (head + f"authorization: {token['Authorization']}\r\n\r\n{{}}").encode()


async def streams(port: int, requests: list[bytes]) -> list[float]:
    """The delays of all tokens of as many streams as there are requests."""

    async def one(request: bytes) -> list[float]:
        async with connection(port) as (reader, writer):
            writer.write(request)
            return await delays(reader)

    return [delay for found in await asyncio.gather(*map(one, requests)) for delay in found]


@pytest.fixture
async def teller() -> Teller:
    return Teller()


@pytest.fixture
async def coach(teller: Teller) -> AsyncIterator[RawService]:
    async with raw_service() as service:
        service.handler = teller
        yield service


@pytest.fixture
async def gateway(coach: RawService, auth_url: str, redis_urls: dict[str, str]) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(
        state_redis_url=redis_urls["state"], auth_url=auth_url, coach_url=coach.url, admin_url=coach.url
    ) as process:
        yield process


async def test_200_streams_bring_each_token_as_it_comes(
    gateway: GatewayProcess, coach: RawService, tokens: Tokens
) -> None:
    requests = [ask(tokens.headers()) for _ in range(200)]
    direct = p99(await streams(int(coach.url.rpartition(":")[2]), requests))
    through = p99(await streams(gateway.port, requests))
    print(f"200 streams, p99 from sending to coming: direct {direct:.2f} ms, through {through:.2f} ms")
    assert through - direct <= 20


async def test_200_clients_that_leave_close_their_streams_in_half_a_second(
    gateway: GatewayProcess, coach: RawService, teller: Teller, tokens: Tokens
) -> None:
    teller.tokens = 1000
    connections = [connection(gateway.port) for _ in range(200)]
    opened = [await one.__aenter__() for one in connections]
    for _, writer in opened:
        writer.write(ask(tokens.headers()))
    for reader, _ in opened:
        await asyncio.wait_for(reader.readuntil(b"data: "), 20)
    before = time.perf_counter()
    for _, writer in opened:
        writer.transport.abort()
    await asyncio.wait_for(teller.all_left.wait(), 10)
    slowest = max(teller.left) - before
    print(f"200 clients left; the last stream was closed after {slowest * 1000:.0f} ms")
    assert slowest <= 0.5
    assert (await gateway.metrics())['gateway_upstream_in_flight{service="coach"}'] == 0


@pytest.mark.faults
async def test_200_running_streams_finish_after_sigterm(
    gateway: GatewayProcess, teller: Teller, tokens: Tokens
) -> None:
    teller.tokens = 20
    requests = [ask(tokens.headers()) for _ in range(200)]
    telling = asyncio.create_task(streams(gateway.port, requests))
    while teller.streams < 200:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.05)
    gateway.signal()
    assert len(await telling) == 200 * teller.tokens
    assert await gateway.ended(5) == 0


def p99(delays: list[float]) -> float:
    """Milliseconds."""
    return statistics.quantiles(delays, n=100)[98] * 1000
