"""Tests of the gateway before clients that leave, or stop reading: their service is let go, and memory stays small."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from common.testing import Tokens

from .process import GatewayProcess, Handler, RawService, connection, gateway_process, raw_service

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
MIB = 1024 * 1024
PIECE = b"10000\r\n" + bytes(65536) + b"\r\n"


def begin(reply: bytes) -> Handler:
    """Read a request's head, send `reply`, and wait until the gateway hangs up."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        while await reader.read(65536):
            pass

    return handler


def request(headers: dict[str, str], *, length: int = 0) -> bytes:
    """The head of a request with a body of `length`."""
    lines = f"POST /api/coach/games HTTP/1.1\r\nhost: g\r\ncontent-length: {length}\r\n"
    return (lines + f"authorization: {headers['Authorization']}\r\n\r\n").encode()


LEAVING = {
    "before the head": (b"", b"", 0),
    "within a body of known length": (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\npart", b"part", 0),
    "within a stream": (CHUNKED + b"4\r\npart\r\n", b"part", 0),
    "within its own body": (b"", b"", 9),
}


@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize(("reply", "seen", "length"), LEAVING.values(), ids=LEAVING)
async def test_a_client_that_leaves_closes_the_way_to_the_service_in_half_a_second(
    reply: bytes, seen: bytes, length: int, how: str, process: GatewayProcess, raw_coach: RawService, tokens: Tokens
) -> None:
    await raw_coach.all_closed(5)
    raw_coach.handler = begin(reply)
    async with connection(process.port) as (reader, writer):
        writer.write(request(tokens.headers(), length=length) + b"pa"[:length])
        await raw_coach.asked(5)
        if seen:
            await reader.readuntil(seen)
        leaving = time.perf_counter()
        if how == "reset":
            writer.transport.abort()
        elif how == "close":
            writer.close()
        else:  # nginx, too, takes it for leaving: the two cannot be told apart
            writer.write_eof()
        await raw_coach.all_closed(5)
    assert time.perf_counter() - leaving <= 0.5


class Flood:
    """A service that sends `size` bytes as fast as they are taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            return
        writer.write(CHUNKED)
        try:
            while self.sent < self.size:
                writer.write(PIECE)
                self.sent += 65536
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            self.ended.set()


@pytest.fixture
async def flood() -> Flood:
    return Flood(500 * MIB)


@pytest.fixture
async def gateway(flood: Flood, auth_url: str, redis_urls: dict[str, str]) -> AsyncIterator[GatewayProcess]:
    async with raw_service() as coach:
        coach.handler = flood
        urls = {"auth_url": auth_url, "coach_url": coach.url, "admin_url": coach.url}
        async with gateway_process(state_redis_url=redis_urls["state"], **urls) as process:
            yield process


async def test_a_client_that_has_stopped_reading_holds_back_the_service(
    gateway: GatewayProcess, flood: Flood, tokens: Tokens
) -> None:
    before = gateway.memory()
    async with connection(gateway.port) as (reader, writer):
        writer.write(request(tokens.headers()))
        await reader.readuntil(b"\r\n\r\n")
        sent = -1
        while sent != flood.sent:  # until nothing moves any more
            sent = flood.sent
            await asyncio.sleep(0.3)
        assert sent < 40 * MIB, "more than the sockets in between hold"
        assert gateway.memory() - before < 20 * MIB
        writer.transport.abort()
        await asyncio.wait_for(flood.ended.wait(), 1)


@pytest.mark.faults
async def test_500_mb_pass_in_little_memory(gateway: GatewayProcess, flood: Flood, tokens: Tokens) -> None:
    before = highest = gateway.memory()
    read = 0
    started = time.perf_counter()
    async with connection(gateway.port) as (reader, writer):
        writer.write(request(tokens.headers()))
        while read < flood.size:
            read += len(await reader.read(MIB))
            highest = max(highest, gateway.memory())
    print(f"500 MiB in {time.perf_counter() - started:.1f} s, memory +{(highest - before) / MIB:.1f} MiB")
    assert highest - before < 30 * MIB


@pytest.mark.faults
async def test_a_client_that_never_reads_again_is_cut_in_30_seconds(
    gateway: GatewayProcess, flood: Flood, tokens: Tokens
) -> None:
    async with connection(gateway.port) as (reader, writer):
        writer.write(request(tokens.headers()))
        await reader.readuntil(b"\r\n\r\n")
        started = time.perf_counter()
        await asyncio.wait_for(flood.ended.wait(), 60)
    print(f"let go after {time.perf_counter() - started:.1f} s")
    assert (await gateway.metrics())['gateway_upstream_in_flight{service="coach"}'] == 0
