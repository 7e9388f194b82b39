"""Tests of `gateway.connection` and `upstream`: where replies end, what is none, which connections are used again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from common.errors import BadRequestError
from gateway.connection import BUFFERED
from gateway.headers import Header
from gateway.outgoing import Body, Outgoing
from gateway.upstream import Upstream, open_upstream

OK = b"HTTP/1.1 200 OK\r\n"
SMALL = OK + b"Content-Length: 5\r\n\r\nhello"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawService:
    """Speaks bytes; `accepted` counts its connections."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.accepted = 0

    async def ask(
        self,
        method: str = "GET",
        body: Body = b"",
        *,
        length: bytes | None = None,
        headers: tuple[Header, ...] = (),
        silence: float = 5,
    ) -> tuple[int, bytes]:
        """Status and body of a whole reply."""
        reply = await self.upstream.ask(Outgoing(method, b"/path", list(headers), body, length, silence))
        try:
            return reply.status, b"".join([piece async for piece in reply])
        finally:
            reply.finish()


Serve = Callable[[Script], Awaitable[RawService]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a service that plays a script on every connection."""
    async with AsyncExitStack() as stack:

        async def start(script: Script) -> RawService:
            return await stack.enter_async_context(_served(script))

        yield start


@asynccontextmanager
async def _served(script: Script) -> AsyncIterator[RawService]:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service.accepted += 1
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_upstream("coach", f"http://127.0.0.1:{port}") as upstream:
        service = RawService(upstream)
        yield service


def always(*said: bytes) -> Script:
    """To each request the next of `said`, the last one for ever; the connection stays open."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(said[min(number, len(said) - 1)])
            number += 1

    return script


def once(said: bytes) -> Script:
    """One reply, then the end of the connection."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    return script


@pytest.mark.parametrize(
    ("method", "said", "status", "body"),
    [
        ("GET", SMALL, 200, b"hello"),
        ("GET", OK + b"Content-Length: 0\r\n\r\n", 200, b""),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: t\r\n\r\n", 200, b"hello"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + SMALL, 200, b"hello"),
        ("POST", b"HTTP/1.1 100 Continue\r\n\r\n" + SMALL, 200, b"hello"),
    ],
    ids=["length", "empty", "chunked, with a trailer", "204", "304, with the length of a 200", "hints", "continue"],
)
async def test_after_a_clean_end_the_connection_is_used_again(
    serve: Serve, method: str, said: bytes, status: int, body: bytes
) -> None:
    service = await serve(always(said))
    for _ in range(3):
        assert await service.ask(method) == (status, body)
    assert service.accepted == 1


@pytest.mark.parametrize(
    ("method", "said", "body"),
    [
        ("GET", OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        ("GET", SMALL + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", b"hello"),
        ("GET", SMALL + b"poison", b"hello"),
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n", b""),
        ("HEAD", SMALL, b""),
    ],
    ids=["close", "1.0", "a second reply", "rubbish after it", "head", "head with a body"],
)
async def test_after_any_other_end_it_is_not(serve: Serve, method: str, said: bytes, body: bytes) -> None:
    service = await serve(always(said))
    for _ in range(3):
        assert (await service.ask(method))[1] == body
    assert service.accepted == 3


async def test_a_reply_without_a_length_ends_with_the_connection(serve: Serve) -> None:
    service = await serve(once(OK + b"\r\nhello"))
    assert await service.ask() == (200, b"hello")


@pytest.mark.parametrize(
    "said",
    [
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"A: b\nContent-Length: 5\n\nhello",
        OK + b"A b: c\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        OK + b"A: " + b"b" * 80_000,
        b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"",
        OK + b"Content-Le",
        OK + b"Content-Length: 5\r\n\r\nhel",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_what_is_no_whole_reply_is_an_error_and_the_connection_ends(serve: Serve, said: bytes) -> None:
    service = await serve(once(said))
    with pytest.raises(httpx.RemoteProtocolError):
        await service.ask("POST")


async def test_a_trailer_without_end_is_an_error(serve: Serve) -> None:
    service = await serve(always(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000))
    with pytest.raises(httpx.RemoteProtocolError):
        await service.ask(silence=1)


async def test_silence_is_an_error_at_any_point(serve: Serve) -> None:
    for said in (b"", OK, OK + b"Content-Length: 5\r\n\r\nhel"):
        service = await serve(always(said))
        with pytest.raises(httpx.ReadTimeout):
            await service.ask(silence=0.05)


async def test_a_service_that_stops_reading_is_silent_too(serve: Serve) -> None:
    given_up = asyncio.Event()

    async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await given_up.wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    service = await serve(never_read)
    with pytest.raises(httpx.ReadTimeout):
        await service.ask("POST", endless(), silence=0.2)
    given_up.set()


async def test_a_kept_connection_that_was_closed_is_replaced_where_asking_twice_does_no_harm(serve: Serve) -> None:
    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SMALL)
        await reader.readuntil(b"\r\n\r\n")  # and away without a word

    service = await serve(one_each)
    assert await service.ask("POST") == (200, b"hello")
    with pytest.raises(httpx.RemoteProtocolError):
        await service.ask("POST")
    assert await service.ask("GET") == (200, b"hello")
    assert await service.ask("GET") == (200, b"hello")
    assert service.accepted == 3


async def test_a_body_in_pieces_is_framed_as_the_caller_declared_it(serve: Serve) -> None:
    arrived: list[bytes] = []

    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readuntil(b"0\r\n\r\n") if b"chunked" in head else await reader.readexactly(6)
            arrived.append(head + body)
            writer.write(SMALL)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece

    service = await serve(read_all)
    await service.ask("POST", pieces())
    await service.ask("POST", pieces(), length=b"6")
    await service.ask("POST", b"onetwo")
    chunked, declared, whole = (text.partition(b"\r\n\r\n") for text in arrived)
    assert chunked[0].endswith(b"transfer-encoding: chunked")
    assert chunked[2] == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert declared == whole
    assert (declared[0].endswith(b"content-length: 6"), declared[2]) == (True, b"onetwo")
    assert service.accepted == 1


async def test_a_reply_that_comes_before_the_body_is_read_is_passed_on(serve: Serve) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async def slow() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.Event().wait()

    service = await serve(refuse)
    assert await service.ask("POST", slow()) == (413, b"no")
    await service.ask("POST", b"")
    assert service.accepted == 2


async def test_a_failure_of_the_body_is_raised_as_it_is_and_the_service_sees_no_whole_body(serve: Serve) -> None:
    rest = asyncio.get_running_loop().create_future()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        rest.set_result(await reader.read())

    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise BadRequestError

    service = await serve(keep)
    with pytest.raises(BadRequestError):
        await service.ask("POST", broken())
    assert await asyncio.wait_for(rest, 5) == b"3\r\none\r\n"


async def test_who_stops_waiting_ends_the_connection(serve: Serve) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        ended.set()

    service = await serve(think)
    waiting = asyncio.create_task(service.ask())
    await asyncio.wait_for(asked.wait(), 5)
    waiting.cancel()
    await asyncio.wait_for(ended.wait(), 0.5)


async def test_a_reply_nobody_reads_is_held_back_in_the_service(serve: Serve) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % 50_000_000)
        while sent < 50_000_000:
            writer.write(b"x" * 100_000)
            sent += 100_000
            await writer.drain()

    service = await serve(flood)
    reply = await service.upstream.ask(Outgoing("GET", b"/", [], b"", None, 5))
    await asyncio.sleep(0.3)  # until every buffer on the way is full, which nobody announces
    assert len(await reply.read()) < 10 * BUFFERED
    assert sent < 25_000_000  # the rest fits no buffer of ours or the system's
    total = len(b"".join([piece async for piece in reply]))
    assert total > 25_000_000
    reply.finish()


async def test_a_connection_whose_reply_was_not_read_to_its_end_is_not_used_again(serve: Serve) -> None:
    size = BUFFERED + 1  # the last byte is the one too many
    service = await serve(always(OK + b"Content-Length: %d\r\n\r\n" % size + bytes(size)))
    reply = await service.upstream.ask(Outgoing("GET", b"/", [], b"", None, 5))
    async with asyncio.timeout(5):
        while not reply.complete:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
    reply.finish()  # its client has left
    assert len((await service.ask(silence=1))[1]) == size
    assert service.accepted == 2


async def test_no_header_can_begin_another(serve: Serve) -> None:
    service = await serve(always(SMALL))
    for value in (b"a\r\nTransfer-Encoding: chunked", b"a\nb: c", b"a\rb"):
        with pytest.raises(BadRequestError):
            await service.ask(headers=((b"x-name", value),))
