"""Tests of `gateway.protocol`: how much a client may send before it is a request, how slowly, and how many may come."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from gateway import protocol
from gateway.settings import Settings

from .conftest import piece, read_body, reply
from .process import connection, guarded

HEAD = b"GET /echo HTTP/1.1\r\nHost: g\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"


class App:
    """Says what it was sent; `/endless` replies until nobody listens, `/early`, at length, before its body is read."""

    def __init__(self) -> None:
        self.requests: list[Scope] = []
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for reached in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{reached}.complete"})
            return
        self.requests.append(scope)
        self.begun.set()
        if scope["path"] == "/endless":
            await self._endless(receive, send)
        elif scope["path"] == "/early":
            await reply(send, 200, "x" * 10_000_000)
        else:
            await reply(send, 200, {"body": (await read_body(receive)).decode()})

    async def _endless(self, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_on(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        self.left.set()

    async def _send_on(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send(piece(bytes(65536)))
            self.sent += 65536


def a_gateway(**settings: int) -> Settings:
    """Settings that differ from the defaults as told; nobody connects to the stores."""
    stores = {"state_redis_url": SecretStr("redis://"), "client_secret": SecretStr("secret")}
    return Settings(env="development", **stores, **settings)  # type: ignore[arg-type]


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def port(app: App) -> AsyncIterator[int]:
    async with guarded(app, a_gateway()) as port:
        yield port


async def exchange(port: int, *pieces: bytes) -> bytes:
    """All that comes back until the server closes, which must be soon."""
    async with connection(port) as (reader, writer):
        for data in pieces:
            writer.write(data)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 5)


def problem_of(answer: bytes) -> dict[str, object]:
    """The problem document of a raw reply that closes the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert b"x-content-type-options: nosniff" in lines
    document: dict[str, object] = json.loads(body)
    assert b"x-request-id: " + str(document["request_id"]).encode() in lines
    return document


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (HEAD + b"X-A: " + b"a" * 17_000 + b"\r\n\r\n", 431, "request_header_too_large"),
        (HEAD + b"X-A: " + b"a" * 10_000_000, 431, "request_header_too_large"),
        (HEAD + b"X-A: a\r\n" * 1_000_000, 431, "request_header_too_large"),
        (HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(100)) + b"\r\n", 431, "request_header_too_large"),
        (b"GET /" + b"a" * 8_192 + b" HTTP/1.1\r\nHost: g\r\n\r\n", 414, "uri_too_long"),
        (b"GET /" + b"a" * 10_000_000, 414, "uri_too_long"),
        (b"\r\n" * 1_000_000, 431, "request_header_too_large"),
        (CHUNKED + b"5;" + b"a" * 10_000_000, 431, "request_header_too_large"),
        (CHUNKED + b"0\r\nX-A: " + b"a" * 10_000_000, 431, "request_header_too_large"),
        (CHUNKED + b"0" * 10_000_000, 431, "request_header_too_large"),
        (b"TRACE / HTTP/1.1\r\nHost: g\r\n\r\n", 405, "method_not_allowed"),
        (b"nonsense\r\n\r\n", 400, "bad_request"),
    ],
)
async def test_too_much_or_no_request_at_all_gets_a_problem_document(
    sent: bytes, status: int, code: str, port: int
) -> None:
    answer = await exchange(port, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (problem_of(answer)["status"], problem_of(answer)["code"]) == (status, code)


async def test_a_refusal_speaks_the_callers_language(port: int) -> None:
    answer = await exchange(port, HEAD + b"Accept-Language: ko\r\nHost: h\r\n\r\n")
    assert problem_of(answer)["detail"] == "요청을 이해할 수 없습니다"
    assert problem_of(answer)["instance"] == "/echo"


async def test_a_bad_body_is_refused_and_its_reader_told(app: App, port: int) -> None:
    answer = await exchange(port, CHUNKED, b"5\r\nhello\r\n", b"nonsense\r\n")
    assert problem_of(answer)["status"] == 400
    assert answer.count(b"HTTP/1.1") == 1


async def test_trailers_are_not_headers(app: App, port: int) -> None:
    async with connection(port) as (reader, writer):
        writer.write(CHUNKED + b"5\r\nhello\r\n0\r\nAuthorization: Bearer a\r\nHost: h\r\n\r\n")
        assert b"hello" in await reader.readuntil(b"}")
    assert {name for name, _ in app.requests[0]["headers"]} == {b"host", b"transfer-encoding"}


async def test_a_request_before_the_reply_to_the_one_before_is_not_served(app: App, port: int) -> None:
    answer = await exchange(port, HEAD + b"\r\n" + HEAD + b"X-Second: 1\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 1
    assert len(app.requests) == 1


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
async def test_an_offer_to_change_the_protocol_is_ignored(upgrade: bytes, app: App, port: int) -> None:
    offer = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABk\r\n\r\n" % upgrade
    answer = await exchange(port, offer + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /", HEAD + b"X-A: "])
async def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    answer = await exchange(port, sent)
    assert answer == b"" if not sent else problem_of(answer)["status"] == 408


async def test_dripping_a_head_does_not_prolong_its_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    async with connection(port) as (reader, writer):
        writer.write(HEAD + b"\r\n")  # the first request of a connection is not the only one in a hurry
        await reader.readuntil(b"0\r\n\r\n")
        for byte in HEAD:
            writer.write(bytes([byte]))
            if answer := await _read_soon(reader):
                assert problem_of(answer)["status"] == 408
                return
    pytest.fail("it would wait for ever")


async def _read_soon(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(65536), 0.05)
    except TimeoutError:
        return b""


async def test_an_idle_connection_is_closed(app: App) -> None:
    async with guarded(app, a_gateway(keep_alive_seconds=1)) as port:
        assert (await exchange(port, HEAD + b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_has_stopped_reading_is_cut(app: App, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READER_SECONDS", 0.2)
    async with connection(port) as (_, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nHost: g\r\n\r\n")
        await asyncio.wait_for(app.left.wait(), 5)
    assert app.sent < 20_000_000, "it was sent more than sockets hold"


async def test_what_the_reply_did_not_wait_for_must_come_soon(
    app: App, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "READER_SECONDS", 1.0)
    answer = await exchange(port, b"POST /early HTTP/1.1\r\nHost: g\r\nContent-Length: 99\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_too_many_connections_are_told_so(app: App) -> None:
    async with guarded(app, a_gateway(max_connections=1)) as port, connection(port) as (reader, writer):
        writer.write(CHUNKED)
        async with asyncio.timeout(5):
            await app.begun.wait()
        assert problem_of(await exchange(port))["status"] == 503
        writer.write(b"0\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b"}"), "who was there first stays"


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"\r\n"], ids=["nothing", "half a head", "an answered request"])
async def test_whoever_has_no_request_makes_room_for_others(app: App, sent: bytes) -> None:
    async with (
        guarded(app, a_gateway(max_connections=2)) as port,
        connection(port) as (oldest, writer),
        connection(port) as (reader, working),
    ):
        working.write(CHUNKED)
        async with asyncio.timeout(5):
            await app.begun.wait()
        writer.write(sent)
        if sent.endswith(b"\r\n\r\n"):
            await oldest.readuntil(b"\r\n0\r\n\r\n")
        assert b" 200 " in await exchange(port, HEAD + b"Connection: close\r\n\r\n")
        with suppress(ConnectionError):
            assert await asyncio.wait_for(oldest.read(), 5) == b""
        working.write(b"0\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b"}")
