"""One HTTP/1.1 connection to a service: a request at a time, its reply as it comes, reuse after a clean end only.

httptools' parser (llhttp, strict) decides what is a valid reply; here is decided what may be made of it. A reply ends
where its own framing says; what was broken off, timed out, or followed by bytes nobody asked for ends the connection
too, so that no caller ever reads a part of another's reply.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import httptools
import httpx

from gateway.headers import Header
from gateway.outgoing import Outgoing

# Of status line and headers, interim replies included; of a trailer, or whatever else is no body, as well.
HEAD_CAP = 64 * 1024
MAX_HEADERS = 200
# So much of a reply waits for a client that reads slower than the service writes.
BUFFERED = 128 * 1024
# Less than uvicorn's five: a connection that the service is about to close must not take a request.
IDLE_SECONDS = 3.0


class Connection(asyncio.Protocol):
    """`ask`, then `read` until it is `complete`, then `finish`; after anything else `abort`.

    Raises httpx.ReadTimeout for silence and httpx.RemoteProtocolError for a reply that is none or was cut. A failure
    of the body's own source is raised as it is.
    """

    def __init__(self, idle: dict["Connection", None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle  # where it waits for its next request
        self._expiry: asyncio.TimerHandle | None = None
        self._head_due: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._silence = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._begin("")

    def _begin(self, method: str) -> None:
        self._method = method
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._unparsed = 0
        self._has_head = self._ends_with_connection = self._is_reusable = False
        self._failure: Exception | None = None
        self.status = 0
        self.headers: list[Header] = []
        self.complete = False
        # If nothing has come back, the service may have closed before it saw the request.
        self.answered = False

    # What the gateway calls

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, outgoing: Outgoing, host: bytes) -> None:
        """Send a request and wait for status and headers."""
        if self._expiry:
            self._expiry.cancel()
        self._begin(outgoing.method)
        self._silence = outgoing.silence
        head, body = outgoing.head(host), outgoing.body
        if isinstance(body, bytes):
            self._write(head + body)
            self._await_head()
        else:
            self._write(head)
            self._sender = self._loop.create_task(self._send(body, chunked=outgoing.content_length is None))
        try:
            while not self._has_head:
                await self._wait()
        finally:
            if self._head_due:
                self._head_due.cancel()

    async def read(self) -> bytes:
        """What has come of the body since the last call, or comes next; nothing at its end."""
        if not self._pieces and not self.complete:
            silence = self._loop.call_later(self._silence, self._fail, httpx.ReadTimeout("the service is silent"))
            try:
                while not self._pieces and not self.complete:
                    await self._wait()
            finally:
                silence.cancel()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._buffered > BUFFERED and self._transport and self.is_open:
            self._transport.resume_reading()
        self._buffered = 0
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The whole body, piece by piece."""
        while piece := await self.read():
            yield piece

    def finish(self) -> None:
        """Leave the connection to the next request if this one came to its proper end on both sides."""
        is_sent = self._sender is None or self._sender.done()
        # What is left unread may have paused the connection for good.
        is_read = not self._pieces
        if self._is_reusable and is_sent and is_read and self._failure is None and self.is_open:
            self._sender = None
            self._expiry = self._loop.call_later(IDLE_SECONDS, self.abort)
            self._idle[self] = None
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._sender:
            self._sender.cancel()
        if self._transport:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.answered = True
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"not an HTTP reply: {error}"))
        if self._unparsed > HEAD_CAP:
            self._fail(httpx.RemoteProtocolError("a head or a trailer without end"))
        if self._buffered > BUFFERED and self._transport and self.is_open:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._idle.pop(self, None)
        if self._ends_with_connection and exc is None and not self._failure:
            self.complete = True
        elif not self.complete:
            self._fail(httpx.RemoteProtocolError("the service closed the connection"))
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the parser calls

    def on_message_begin(self) -> None:
        if self.complete:  # a reply to nothing: whose it is meant to be we cannot know
            self._is_reusable = False
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # else it is a trailer
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim reply; of an upgrade, which nobody asked for, the parser complains
            self.headers.clear()
            return
        if unwanted := self._unwanted():
            self._fail(httpx.RemoteProtocolError(unwanted))
            return
        self.status, self._has_head = status, True
        if self._method == "HEAD" or status in (204, 304):
            self.complete = True  # whatever length it declares; reusable if the parser, too, sees the end
            return
        self._ends_with_connection = not {b"transfer-encoding", b"content-length"} & {name for name, _ in self.headers}

    def on_body(self, body: bytes) -> None:
        if self.complete:
            self.abort()
            return
        self._unparsed = 0
        self._pieces.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self.complete = True
            self._is_reusable = self._parser.should_keep_alive()

    # Inside

    def _unwanted(self) -> str | None:
        """What is wrong with the headers, if anything."""
        if len(self.headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in self.headers) > HEAD_CAP:
            return "a head too large"
        encodings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if any(value.strip().lower() != b"chunked" for value in encodings) or len(encodings) > 1:
            return "a transfer encoding that we did not accept"
        return None

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def _await_head(self) -> None:
        """The request is sent: now the service has its time, which no interim reply and no drip prolongs."""
        if not self._has_head:
            self._head_due = self._loop.call_later(self._silence, self._fail, httpx.ReadTimeout("no head in time"))

    async def _send(self, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
        try:
            async for piece in pieces:
                if piece:
                    self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                async with asyncio.timeout(self._silence):
                    await self._writable.wait()
            if chunked:
                self._write(b"0\r\n\r\n")
            self._await_head()
        except TimeoutError:
            self._fail(httpx.ReadTimeout("the service does not read"))
        except Exception as error:  # noqa: BLE001 - raised again where the reply is waited for
            self._fail(error)

    async def _wait(self) -> None:
        """Until something came; raises what failed, also while nobody waited."""
        if self._failure:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
