"""Two ways to load a server: as much as it takes (closed loop), or a request every so often (open loop)."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import httptools

# After the last request; what was not answered by then counts as taking for ever.
LAST_ANSWER_SECONDS = 5.0

Answered = Callable[["Connection", float], None]


@dataclass(frozen=True)
class Request:
    """What is sent to whom; `contents` are sent in turn, so that they may come from several players."""

    port: int
    contents: tuple[bytes, ...]


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request under way at a time."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._began = 0.0
        self.failure: str | None = None

    def send(self, content: bytes, began: float) -> None:
        """Send a request; its time counts from `began`."""
        self._began = began
        if self._transport:
            self._transport.write(content)

    def close(self) -> None:
        """End it, also in the middle of a reply."""
        if self._transport:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Called by httptools. A refusal is quickly said, so it must not pass for an answer."""
        if (status := self._parser.get_status_code()) != 200:
            self.failure = f"status {status}"
        self._answered(self, time.perf_counter() - self._began)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._transport:
            self.failure = "connection lost"


class LoadError(RuntimeError):
    """Something else than 200 came back: there is nothing to be measured."""


async def _connect(port: int, count: int, answered: Answered) -> list[Connection]:
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(count):
        _, connection = await loop.create_connection(lambda: Connection(answered), "127.0.0.1", port)
        connections.append(connection)
    return connections


def _finish(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
    if failures := {connection.failure for connection in connections if connection.failure}:
        raise LoadError(", ".join(sorted(failures)))


async def closed_loop(request: Request, *, connections: int, seconds: float) -> float:
    """Requests answered a second when each connection sends its next as soon as it has its answer."""
    answers = done = 0
    is_over, all_done = False, asyncio.Event()

    def answered(connection: Connection, _: float) -> None:
        nonlocal answers, done
        answers += 1
        if is_over or connection.failure:
            done += 1
            if done == connections:
                all_done.set()
        else:
            connection.send(request.contents[answers % len(request.contents)], 0.0)

    opened = await _connect(request.port, connections, answered)
    began = time.perf_counter()
    for number, connection in enumerate(opened):
        connection.send(request.contents[number % len(request.contents)], 0.0)
    await asyncio.sleep(seconds)
    is_over, rate = True, answers / (time.perf_counter() - began)
    # What is under way would otherwise be the next measurement's load.
    await _until(all_done)
    _finish(opened)
    return rate


async def open_loop(request: Request, *, per_second: float, seconds: float, connections: int = 32) -> list[float]:
    """Seconds each request took, counted from when it was due.

    A request is due at its time whatever became of those before it; one that has to wait for a connection has already
    begun. Else a server that stalls would be asked less just then (coordinated omission).
    """
    asked, latencies = int(per_second * seconds), list[float]()
    all_answered = asyncio.Event()
    waiting: deque[tuple[bytes, float]] = deque()

    def answered(connection: Connection, seconds_taken: float) -> None:
        latencies.append(seconds_taken)
        if len(latencies) == asked:
            all_answered.set()
        if waiting:
            connection.send(*waiting.popleft())
        else:
            idle.append(connection)

    def ask(content: bytes, due: float) -> None:
        if idle:
            idle.pop().send(content, due)
        else:
            waiting.append((content, due))

    opened = await _connect(request.port, connections, answered)
    idle = list(opened)
    await asyncio.to_thread(_tick, asyncio.get_running_loop(), ask, request.contents, per_second, asked)
    await _until(all_answered)
    _finish(opened)
    return latencies + [math.inf] * (asked - len(latencies))


async def _until(last_answer: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_ANSWER_SECONDS):
            await last_answer.wait()


def _tick(
    loop: asyncio.AbstractEventLoop,
    ask: Callable[[bytes, float], None],
    contents: tuple[bytes, ...],
    per_second: float,
    count: int,
) -> None:
    """Calls `ask` when a request is due, from a thread: an event loop's own timers are late by up to a millisecond."""
    began = time.perf_counter()
    for number in range(count):
        due = began + number / per_second
        time.sleep(max(due - time.perf_counter(), 0))
        loop.call_soon_threadsafe(ask, contents[number % len(contents)], due)
