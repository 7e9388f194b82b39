"""The client's side of a request: its body as it arrives, counted, and after it the client's leaving."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from starlette.types import Receive

from common.errors import AppError, PayloadTooLargeError, Text

# Most replies are there sooner, and to look for the client's leaving costs a task.
WATCH_AFTER_SECONDS = 0.1


class ClientLeftError(AppError):
    """Its reply reaches nobody, since the server drops it, but gives log and metrics nginx's status for the case."""

    status: ClassVar[int] = 499
    code: ClassVar[str] = "client_closed_request"
    title: ClassVar[Text] = Text("The client closed the connection", "클라이언트가 연결을 닫았습니다")


class TooSlowError(AppError):
    """Closes the connection too, since the rest of the body might still come."""

    status: ClassVar[int] = 408
    code: ClassVar[str] = "request_timeout"
    title: ClassVar[Text] = Text("The request took too long to arrive", "요청이 제시간에 도착하지 않았습니다")

    def __init__(self) -> None:
        super().__init__(headers={"Connection": "close"})


class RequestBody:
    """The body of one request, at most `cap` bytes within `seconds`; `declared` is its Content-Length."""

    def __init__(self, receive: Receive, *, cap: int, seconds: float, declared: bytes | None) -> None:
        self._receive = receive
        self._cap = cap
        self._deadline = asyncio.get_running_loop().time() + seconds
        if declared and int(declared) > cap:
            raise self._too_large()
        self._seen = 0
        self._first = b""
        self._complete = False
        self._client_left = False
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | asyncio.TimerHandle | None = None

    async def content(self, *, whole: bool = False) -> "bytes | RequestBody":
        """The body itself when it came in one piece, as most do, or is wanted whole; else this object, to be iterated.

        Whoever dawdles with a body that is wanted whole keeps none of the service's slots meanwhile.
        """
        self._first = await self._next()
        while whole and not self._complete:
            self._first += await self._next()
        return self._first if self._complete else self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces; a body too large or broken off raises, so that no service takes a part for the whole."""
        yield self._first
        while not self._complete:
            yield await self._next()

    @asynccontextmanager
    async def ended_by_client(self) -> AsyncIterator[None]:
        """Cancels the block and raises ClientLeftError soon after the client leaves."""
        try:
            yield
        except asyncio.CancelledError:
            if not self._client_left or self._task is None:
                raise
            self._task.uncancel()
            raise ClientLeftError from None
        finally:
            if self._watcher:
                self._watcher.cancel()

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise TooSlowError from None
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        piece: bytes = message.get("body", b"")
        self._seen += len(piece)
        if self._seen > self._cap:
            raise self._too_large()
        self._complete = not message.get("more_body", False)
        if self._complete:
            self._watcher = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._begin_to_watch)
        return piece

    def _begin_to_watch(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_left = True
        if self._task:
            self._task.cancel()

    def _too_large(self) -> PayloadTooLargeError:
        kib = self._cap // 1024
        return PayloadTooLargeError(
            Text(f"The request body may have {kib} KiB at most", f"요청 본문은 최대 {kib} KiB까지 허용됩니다")
        )
