"""One connection of a client: uvicorn's HTTP protocol with bounds on what a client may send, and how slowly.

uvicorn alone takes 50 MB of headers, waits for ever for the rest of a head and for a reader that has stopped reading,
and starts pipelined requests whose client left unnoticed.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

import httptools
from prometheus_client import Counter
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from common import logs
from common.db import uuid7
from common.errors import PROBLEM_JSON, AppError, BadRequestError, UnavailableError, caller_locale, problem
from gateway.body import TooSlowError
from gateway.conditions import ServerConditions
from gateway.reply_writer import ReplyWriter
from gateway.request_head import MAX_HEAD_BYTES, HeadTooLargeError, check_head, check_size

logger = logging.getLogger(__name__)

# For a whole head, from its first byte or from the connection's beginning.
HEAD_SECONDS = 10.0
# In which a client must take what waits for it (64 KiB at the least), or it has stopped reading.
READER_SECONDS = 30.0
# After a refusal more may be on its way: closed at once, the connection would be reset, and the refusal lost.
LINGER_SECONDS = 1.0

refusals = Counter("gateway_refused_requests_total", "Requests refused before they became one", ["code"])


class GuardedProtocol(HttpToolsProtocol):
    """Refuses what `check_head` refuses, with a problem document; one request at a time, each within its time."""

    server_state: ServerConditions

    def __init__(
        self,
        config: Config,
        server_state: ServerConditions,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn's come with the first request.
        self.url, self.headers = b"/", []
        # The newest request that reached the app.
        self._request: RequestResponseCycle | None = None
        # Since the last head or piece of a body: what the parser holds, or skips, such as trailers.
        self._unparsed = 0
        # Whether what comes next belongs to a head.
        self._in_head = True
        # Whatever comes is read and forgotten.
        self._deaf = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._cut_timer: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless there are too many with a request."""
        super().connection_made(transport)
        if not self.server_state.has_room():
            self._deaf = True
            self._write_refusal(UnavailableError())
            transport.close()
        else:
            self.server_state.unused[transport] = None
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_slow_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all timers."""
        super().connection_lost(exc)
        self.server_state.unused.pop(self.transport, None)
        self._unset_keepalive_if_required()
        self._disarm_head()
        self._disarm_cut()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write; it has its time to catch up."""
        super().pause_writing()
        self._cut_after(READER_SECONDS)

    def resume_writing(self) -> None:
        """It has caught up; after the reply that alone does not keep a connection."""
        super().resume_writing()
        is_kept = self._in_head and not self._deaf
        if (self._is_answering() or is_kept) and not self.transport.is_closing():
            self._disarm_cut()

    def timeout_keep_alive_handler(self) -> None:
        """Idle for too long; with what it has not read, since that would hold a closing connection open."""
        self.transport.abort()

    # The request

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and answer in the app's place what never becomes a request."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
            if self._unparsed > MAX_HEAD_BYTES:
                self._refuse(self._too_large())
        except httptools.HttpParserUpgrade:
            # A server may ignore the offer, and we do; but what the client would send next is anyone's guess.
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            # What a callback raised is the context of what the parser raises.
            self._refuse(error.__context__ if isinstance(error.__context__, AppError) else BadRequestError())
        self._await_head()

    def on_headers_complete(self) -> None:
        """Start the app, unless the head is refused, or comes before the reply to the request before."""
        self._unparsed = 0
        self._disarm_head()
        if self._is_answering():
            raise BadRequestError
        check_head(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        super().on_headers_complete()
        self.cycle.transport = ReplyWriter(self.transport)  # type: ignore[assignment] # all of one that a reply needs
        self._request = self.cycle
        self.server_state.unused.pop(self.transport, None)
        self._in_head = False
        # Trailers come by the same callback, and are nobody's headers.
        self.headers = []
        if self.server_state.drain.begun:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Hand on a piece."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next byte begins another head."""
        self._in_head = True
        if not self._is_answering():
            self._disarm_cut()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The reply is written; the client has its time to read it, and to send what the reply did not wait for."""
        super().on_response_complete()
        self.server_state.unused[self.transport] = None
        if self.transport.is_closing() or not self._in_head:
            self._cut_after(READER_SECONDS)

    # Refusals

    def _await_head(self) -> None:
        """Part of a head may be here; the rest has its time, once the client has nothing else to wait for."""
        if self._in_head and not (self._deaf or self._head_timer or self._is_answering()):
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_slow_head)

    def _is_answering(self) -> bool:
        return self._request is not None and not self._request.response_complete

    def _refuse(self, error: AppError) -> None:
        """Answer with `error` and close; a reply that is under way comes first, or is cut if it is to this request."""
        self._deaf = True
        self._disarm_head()
        if self._is_answering():
            if self._in_head:
                self.cycle.keep_alive = False
                return
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._write_refusal(error)
        self.flow.resume_reading()
        self.transport.write_eof()
        self._cut_after(LINGER_SECONDS)

    def _too_large(self) -> AppError:
        if self._in_head:
            try:
                check_size(self.url, self.headers)
            except AppError as error:
                return error
        return HeadTooLargeError()

    def _on_slow_head(self) -> None:
        self._head_timer = None
        if self._unparsed:
            self._refuse(TooSlowError())
        else:
            self.transport.abort()

    def _write_refusal(self, error: AppError) -> None:
        """The problem document of `error`, as the app would give it, with whatever of the request is known."""
        request_id = str(uuid7())
        context = logs.request_id.set(request_id)
        headers = dict(self.headers if self._in_head else self.scope["headers"])
        path = self.url.partition(b"?")[0].decode("latin-1")
        locale = caller_locale(headers.get(b"accept-language", b"").decode("latin-1"))
        body = problem(error, locale=locale, instance=path).model_dump_json(exclude_none=True).encode()
        refusals.labels(error.code).inc()
        logger.info("request refused", extra={"code": error.code, "status": error.status})
        logs.request_id.reset(context)
        told = {
            **dict(self.server_state.default_headers),
            **dict(self.server_state.hardening),
            **{name.lower().encode(): value.encode() for name, value in error.headers.items()},
            b"content-type": PROBLEM_JSON.encode(),
            b"content-length": b"%d" % len(body),
            b"content-language": locale.encode(),
            b"cache-control": b"no-store",
            b"x-request-id": request_id.encode(),
            b"connection": b"close",
        }
        status = b"HTTP/1.1 %d %s\r\n" % (error.status, HTTPStatus(error.status).phrase.encode())
        lines = b"".join(b"%s: %s\r\n" % header for header in told.items())
        self.transport.write(status + lines + b"\r\n" + body)

    # Timers

    def _cut_after(self, seconds: float) -> None:
        self._disarm_cut()
        self._cut_timer = self.loop.call_later(seconds, self.transport.abort)

    def _disarm_cut(self) -> None:
        if self._cut_timer:
            self._cut_timer.cancel()
            self._cut_timer = None

    def _disarm_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None
