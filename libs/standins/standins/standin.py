"""What all stand-ins share: routes, recorded calls, scripted replies and faults."""

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from standins.calls import Call, CallRecord
from standins.gate import Gate
from standins.server import Receive, Scope, Send, serve

JSON = {"Content-Type": "application/json"}


@dataclass(kw_only=True)
class Reply:
    """How one call is treated; as it stands, it gets the usual answer."""

    hold: Gate | None = None  # not a byte is sent before it lets this call through
    reset: bool = False  # the connection is reset instead of any answer
    status: int | None = None  # this status, with `body` and `headers`, instead of the usual answer
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """One call and the means to answer it, byte by byte."""

    def __init__(self, call: Call, reply: Reply, record: CallRecord, scope: Scope, send: Send) -> None:
        self.call = call
        self.reply = reply
        self._hold = reply.hold
        self.record = record
        self._reset: Callable[[], Awaitable[None]] = scope["extensions"]["standins"]["reset"]
        self._send = send

    async def admitted(self) -> None:
        """Wait, once, until the script lets this call go on."""
        hold, self._hold = self._hold, None
        if hold:
            await hold.enter()

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head, as soon as the script allows a first byte."""
        await self.admitted()
        with self.record.changing():
            self.call.status = status
        head = {name.lower().encode(): value.encode() for name, value in headers.items()}
        await self._send({"type": "http.response.start", "status": status, "headers": list(head.items())})

    async def write(self, body: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        """Send the last part of the body."""
        await self._send({"type": "http.response.body", "body": body})

    async def answer(self, status: int, body: str, headers: Mapping[str, str] = JSON) -> None:
        """Send a whole reply."""
        content = body.encode()
        await self.start(status, {**headers, "Content-Length": str(len(content))})
        await self.end(content)

    async def answer_json(self, body: object, status: int = 200) -> None:
        """Send a whole reply as JSON."""
        await self.answer(status, json.dumps(body, ensure_ascii=False))

    async def reset(self) -> None:
        """Break the connection after what was sent so far."""
        await self._reset()


Handler = Callable[[Exchange], Awaitable[None]]


class Standin:
    """An ASGI app that answers as scripted and remembers what it was asked. Safe to use from any thread."""

    def __init__(self, *, log: Path | None = None) -> None:
        self.url = ""  # known once served
        self.routes: dict[tuple[str, str], Handler] = {("GET", "/calls"): self._show_calls}
        self._record = CallRecord(log)
        self._scripted: defaultdict[str, deque[Reply]] = defaultdict(deque)

    @property
    def calls(self) -> list[Call]:
        """Calls so far, oldest first; `GET /calls` shows the same."""
        return self._record.all()

    async def until(self, condition: Callable[[list[Call]], object], within: float = 5.0) -> list[Call]:
        """Wait for something to happen here: `await openai.until(lambda calls: len(calls) == 2)`."""
        return await self._record.until(condition, within)

    def script(self, path: str, reply: Reply) -> None:
        """Add a reply for one call of `path`; the queue empty, calls get the usual answer."""
        self._scripted[path].append(reply)

    def clear(self) -> None:
        """Forget calls and script, for the next test."""
        self._record.clear()
        self._scripted.clear()

    async def _show_calls(self, exchange: Exchange) -> None:
        await exchange.answer_json(self._record.as_json())

    async def _not_found(self, exchange: Exchange) -> None:
        known = sorted(f"{method} {path}" for method, path in self.routes)
        await exchange.answer_json({"error": {"message": f"This stand-in knows {', '.join(known)}."}}, 404)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # uvicorn takes this for "no lifespan here"
            raise NotImplementedError(scope["type"])
        call = await _read(scope, receive)
        record = CallRecord() if call.path == "/calls" else self._record  # looking at calls is not one of them
        record.add(call)
        queue = self._scripted[call.path]
        exchange = Exchange(call, queue.popleft() if queue else Reply(), record, scope, send)
        try:
            await self._answer_while_listened_to(exchange, receive)
        finally:
            record.end(call)

    async def _answer_while_listened_to(self, exchange: Exchange, receive: Receive) -> None:
        answering = asyncio.ensure_future(self._answer(exchange))
        leaving = asyncio.ensure_future(receive())  # the body is read: the next message says that the client left
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return answering.result()
            with exchange.record.changing():
                exchange.call.disconnected_at = time.monotonic()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _answer(self, exchange: Exchange) -> None:
        reply = exchange.reply
        if reply.reset:
            await exchange.reset()
        elif reply.status is not None:
            await exchange.answer(reply.status, reply.body, {**JSON, **reply.headers})
        else:
            handler = self.routes.get((exchange.call.method, exchange.call.path), self._not_found)
            await handler(exchange)


async def _read(scope: Scope, receive: Receive) -> Call:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    text = body.decode(errors="replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = text
    return Call(method=scope["method"], path=scope["path"], headers=headers, body=parsed)


AnyStandin = TypeVar("AnyStandin", bound=Standin)


@contextmanager
def run(standin: AnyStandin, port: int = 0) -> Iterator[AnyStandin]:
    """Serve a stand-in for the length of a `with` block."""
    with serve(standin, port=port) as server:
        standin.url = server.url
        yield standin
