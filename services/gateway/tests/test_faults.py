"""Tests of the gateway before services that misbehave: each fault costs one reply, and nothing else.

The client has its problem document or a cut reply in bounded time, the other service still answers, and no socket and
no slot is left over.
"""

import asyncio
import gzip
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from common.testing import Tokens, auth_standin, listening
from gateway import routes
from gateway.app import build
from gateway.settings import Settings

from .process import Handler, RawService, guarded, open_sockets

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Then = Callable[[Reader, Writer], Awaitable[None]]

# In place of the routes' own 10 to 120 s.
SILENCE = 0.4
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
EVENTS = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(10_000_000))
HTML = b"<html><body>502 Bad Gateway</body></html>"
# The reply begins, and ends without its end.
CUT = -1


def reply(data: bytes, then: Then | None = None) -> Handler:
    """Read a request's head, send `data`, do `then`, close."""

    async def handler(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        if then:
            await then(reader, writer)

    return handler


async def hang(reader: Reader, writer: Writer) -> None:
    """Until the gateway hangs up."""
    await reader.read()


async def reset(reader: Reader, writer: Writer) -> None:
    await asyncio.sleep(0.05)  # after what was sent has been read
    writer.transport.abort()


def endlessly(data: bytes, pause: float = 0.0) -> Then:
    """Send `data` for ever."""

    async def send(reader: Reader, writer: Writer) -> None:
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause)

    return send


def slowly(pieces: list[bytes]) -> Then:
    """Send `pieces`, each well within the silence that is allowed."""

    async def send(reader: Reader, writer: Writer) -> None:
        for data in pieces:
            writer.write(data)
            await asyncio.sleep(SILENCE / 4)

    return send


async def hang_up(reader: Reader, writer: Writer) -> None:
    """Without a word."""


async def not_read(reader: Reader, writer: Writer) -> None:
    await asyncio.sleep(SILENCE * 3)


class Fault(NamedTuple):
    """What the service does, and what the client gets."""

    handler: Handler
    status: int
    body: bytes | None = None
    sent: bytes = b""


FAULTS = {
    "hangs before the head": Fault(reply(b"", hang), 504),
    "hangs within the head": Fault(reply(OK + b"content-type: te", hang), 504),
    "drips its head for ever": Fault(reply(OK, endlessly(b"x-a: b\r\n", SILENCE / 8)), 504),
    "hangs within the body": Fault(reply(OK + b"content-length: 9\r\n\r\npart", hang), CUT),
    "hangs within a stream of events": Fault(reply(EVENTS + b"9\r\ndata: a\n\n\r\n", hang), CUT),
    "resets before the head": Fault(reply(b"", reset), 502),
    "resets within the head": Fault(reply(OK + b"content-ty", reset), 502),
    "resets within the body": Fault(reply(OK + b"content-length: 9\r\n\r\npart", reset), CUT),
    "closes before the head": Fault(hang_up, 502),
    "closes within the head": Fault(reply(OK + b"content-ty"), 502),
    "closes before its length": Fault(reply(OK + b"content-length: 9\r\n\r\npart"), CUT),
    "closes within a chunk": Fault(reply(CHUNKED + b"9\r\npart"), CUT),
    "closes between chunks": Fault(reply(CHUNKED + b"4\r\npart\r\n"), CUT),
    "sends more than its length": Fault(reply(OK + b"content-length: 4\r\n\r\nwholeHTTP/1.1 200\r\n"), 200, b"whol"),
    "sends a second reply": Fault(reply((OK + b"content-length: 1\r\n\r\na") * 2), 200, b"a"),
    "sends a header of 1 MB": Fault(reply(OK + b"x-a: " + b"a" * 1_000_000 + b"\r\n\r\n"), 502),
    "sends 10,000 headers": Fault(reply(OK + b"x-a: abcde\r\n" * 10_000 + b"content-length: 0\r\n\r\n"), 502),
    "sends headers for ever": Fault(reply(OK, endlessly(b"x-a: b\r\n" * 100)), 502),
    "sends interim replies for ever": Fault(reply(b"", endlessly(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), 502),
    "drips interim replies for ever": Fault(reply(b"", endlessly(b"HTTP/1.1 103 Early\r\n\r\n", SILENCE / 8)), 504),
    "drips its body": Fault(reply(CHUNKED, slowly([b"1\r\na\r\n"] * 8 + [b"0\r\n\r\n"])), 200, b"a" * 8),
    "sends HTML without a head": Fault(reply(HTML), 502),
    "sends a bad status line": Fault(reply(b"HTTP/1.1 OK\r\n\r\n"), 502),
    "sends a status that is none": Fault(reply(b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"), 502),
    "changes the protocol": Fault(reply(b"HTTP/1.1 101 Yes\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), 502),
    "sends two lengths": Fault(reply(OK + b"content-length: 4\r\ncontent-length: 5\r\n\r\nparts"), 502),
    "sends a length and chunks": Fault(reply(CHUNKED[:-2] + b"content-length: 5\r\n\r\n0\r\n\r\n"), 502),
    "sends a null in a header": Fault(reply(OK + b"x-a: a\x00b\r\ncontent-length: 0\r\n\r\n"), 502),
    "sends a chunk that is none": Fault(reply(CHUNKED + b"4\r\npart\r\nxyz\r\n"), CUT),
    "sends a body with 204": Fault(reply(b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\npart"), 204, b""),
    "sends a bomb": Fault(
        reply(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB), 200, BOMB
    ),
    "does not read": Fault(not_read, 504, sent=bytes(60 * 1024) * 500),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def in_a_hurry() -> Iterator[None]:
    """Routes that wait for so long only."""
    hurried = {
        prefix: replace(route, read_timeout=SILENCE, body_cap=1 << 30) for prefix, route in routes._BY_PREFIX.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes, "_BY_PREFIX", hurried)
        yield


@pytest.fixture(scope="module")
async def auth_url(tokens: Tokens) -> AsyncIterator[str]:
    """auth, in this event loop."""
    async with listening(auth_standin(tokens)) as url:
        yield url


@pytest.fixture(scope="module")
async def port(
    auth_url: str, raw_coach: RawService, raw_admin: RawService, redis_urls: dict[str, str]
) -> AsyncIterator[int]:
    """A gateway between coach and admin."""
    # What the gateway itself asks at its start must not leave a connection behind.
    raw_coach.handler = reply(OK + b'content-length: 13\r\nconnection: close\r\n\r\n{"paths": {}}')
    settings = gateway_settings(auth_url, raw_coach.url, raw_admin.url, redis_urls)
    async with guarded(build(settings), settings) as port, httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{port}/readyz")
        await raw_coach.all_closed(5)
        yield port


def gateway_settings(auth_url: str, coach_url: str, admin_url: str, redis_urls: dict[str, str]) -> Settings:
    return Settings(
        env="development",
        state_redis_url=SecretStr(redis_urls["state"]),
        client_secret=SecretStr("secret"),
        auth_url=auth_url,
        coach_url=coach_url,
        admin_url=admin_url,
        openapi_refresh_seconds=3600,
    )


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_costs_one_reply_and_nothing_else(
    fault: Fault, port: int, raw_coach: RawService, signed_in: dict[str, str]
) -> None:
    raw_coach.handler = fault.handler
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as other:
        await admin_answers(other)
        before = open_sockets(os.getpid())
        started = time.perf_counter()
        asking = asyncio.create_task(ask(port, signed_in, fault))
        while not asking.done():
            assert await admin_answers(other) < 1, "one service's fault slows another"
            await asyncio.sleep(SILENCE / 8)
        assert await asking == (fault.status, fault.body)
        assert time.perf_counter() - started < SILENCE + 2
        await settled(before)


async def ask(port: int, headers: dict[str, str], fault: Fault) -> tuple[int, bytes | None]:
    """What the client gets: status and body, CUT if the body has no end, the code of a problem document checked."""
    method = "POST" if fault.sent else "GET"
    url = f"http://127.0.0.1:{port}/api/coach/games"
    try:
        async with (
            httpx.AsyncClient(headers=headers, timeout=5) as client,
            client.stream(method, url, content=fault.sent) as answer,
        ):
            body = b"".join([piece async for piece in answer.aiter_raw()])
    except httpx.RemoteProtocolError:
        return CUT, None
    if answer.status_code < 500:
        return answer.status_code, body
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, None


async def admin_answers(client: httpx.AsyncClient) -> float:
    """Seconds that the other service takes."""
    started = time.perf_counter()
    assert (await client.get("/admin/stats")).status_code == 200
    return time.perf_counter() - started


async def settled(sockets: int) -> None:
    """Return when there are no more sockets than before and no slot is taken; idle connections may have gone."""
    async with asyncio.timeout(3):
        while open_sockets(os.getpid()) > sockets or slots_taken():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


def slots_taken() -> float:
    return sum(
        REGISTRY.get_sample_value(f"gateway_upstream_{name}", {"service": "coach"}) or 0.0
        for name in ("in_flight", "waiting")
    )


async def test_a_body_that_takes_longer_than_the_service_may_be_silent_is_no_fault_of_the_service(
    port: int, raw_coach: RawService, signed_in: dict[str, str]
) -> None:
    async def read_all(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(OK + b"content-length: 0\r\n\r\n")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"part"
            await asyncio.sleep(SILENCE * 0.7)

    raw_coach.handler = read_all
    async with httpx.AsyncClient(headers=signed_in) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/api/coach/games", content=pieces())
    assert answer.status_code == 200


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """The address of one that listens and never accepts, its queue full: a connection to it is never made."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        address = listener.getsockname()
        with closing(socket.create_connection(address)):
            yield f"http://127.0.0.1:{address[1]}"


@pytest.fixture
def refused() -> str:
    """The address of nobody."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("address", ["refused", "full_backlog"])
async def test_who_refuses_or_swallows_connections_is_unavailable(
    address: str,
    auth_url: str,
    raw_admin: RawService,
    redis_urls: dict[str, str],
    signed_in: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    settings = gateway_settings(auth_url, request.getfixturevalue(address), raw_admin.url, redis_urls)
    async with guarded(build(settings), settings) as port, httpx.AsyncClient() as other:
        await other.get(f"http://127.0.0.1:{port}/admin/stats")
        before = open_sockets(os.getpid())
        assert await ask(port, signed_in, Fault(hang_up, 503)) == (503, None)
        await settled(before)
