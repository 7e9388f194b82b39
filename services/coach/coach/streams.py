"""An answer while it is made, told as server-sent events or awaited whole; it stops when the caller leaves."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar

from fastapi import Request, Response
from fastapi.sse import format_sse_event
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from coach.shapes import AnswerPublic, Meta, Token
from common.errors import AppError, Problem, caller_locale, problem
from common.telemetry import unexpected_errors

logger = logging.getLogger(__name__)

EventName = Literal["meta", "token", "citation", "done", "error"]
Tell = Callable[[EventName, BaseModel], Awaitable[None]]
Story = Callable[[Tell], Coroutine[Any, Any, AnswerPublic]]
Result = TypeVar("Result")

# Events ahead of a slow reader; then the story, and with it the model, waits.
EVENTS_AHEAD = 64
# Words up to about 60 letters; joined they are the text.
_PIECES = re.compile(r".{1,60}(?:\s+|\Z)|\S{1,60}|\s+", re.DOTALL)
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# For the gateway, which keeps it to itself.
COST_HEADER = "Dugout-Question-Cost"


class CallerLeftError(AppError):
    """Nobody reads this reply; the status is the one proxies log for it."""

    status, code = 499, "caller_left"


class Telling:
    """A story told event by event, with ids from 1; exactly one `done` or `error` ends it."""

    def __init__(self, request: Request, story: Story, *, heartbeat: float) -> None:
        self._request = request
        self._heartbeat = heartbeat
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue(EVENTS_AHEAD)
        self._last_id = 0
        self._begun = asyncio.Event()
        # What the reply's head says, known from the first event on.
        self.headers = dict(HEADERS)
        self._task = asyncio.create_task(self._run(story))

    async def begin(self) -> None:
        """Wait for the first event; what fails before it is raised here and becomes an ordinary problem reply."""
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait({begun, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
        if self._task.done():
            self._task.result()

    async def lines(self) -> AsyncIterator[bytes]:
        """The events on the wire, and a comment whenever there was none for a while."""
        while True:
            try:
                event = await asyncio.wait_for(self._events.get(), self._heartbeat)
            except TimeoutError:
                yield b": waiting\n\n"
                continue
            if event is None:
                return
            yield event

    async def stop(self) -> None:
        """End the story if it still runs: the caller has left."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, story: Story) -> None:
        try:
            await self._tell("done", await story(self._tell))
        except Exception as error:
            if not self._begun.is_set():
                raise
            await self._tell("error", self._problem(error))
        await self._events.put(None)

    async def _tell(self, name: EventName, data: BaseModel) -> None:
        if isinstance(data, Meta):
            self.headers[COST_HEADER] = data.question_cost
        self._last_id += 1
        event = format_sse_event(event=name, id=str(self._last_id), data_str=_json(data))
        await self._events.put(event)
        self._begun.set()

    def _problem(self, error: Exception) -> BaseModel:
        if not isinstance(error, AppError):
            unexpected_errors.labels(self._request.scope["route"].path).inc()
            logger.error("unexpected error", exc_info=error)
            error = AppError()
        locale = caller_locale(self._request.headers.get("accept-language"))
        return problem(error, locale=locale, instance=self._request.url.path)


class EventStream(StreamingResponse):
    """The reply that carries a telling; Starlette stops it when the caller leaves, and it stops the story."""

    media_type = "text/event-stream"

    def __init__(self, telling: Telling) -> None:
        super().__init__(telling.lines(), headers=telling.headers)
        self._telling = telling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._telling.stop()


def wants_events(request: Request) -> bool:
    """Whether the caller asked for server-sent events."""
    return "text/event-stream" in request.headers.get("accept", "").lower()


async def stream(request: Request, story: Story, *, heartbeat: float) -> EventStream:
    """The story as server-sent events."""
    telling = Telling(request, story, heartbeat=heartbeat)
    try:
        await while_connected(request, telling.begin())
    except BaseException:
        await telling.stop()
        raise
    return EventStream(telling)


async def whole(request: Request, response: Response, story: Story) -> AnswerPublic:
    """The story's end alone, and what it costs in the head of `response`."""

    async def note_cost(name: EventName, data: BaseModel) -> None:
        if isinstance(data, Meta):
            response.headers[COST_HEADER] = data.question_cost

    return await while_connected(request, story(note_cost))


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the caller hangs up; the request's body must be read by then."""
    working = asyncio.create_task(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerLeftError
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def tell_text(text: str, tell: Tell) -> None:
    """Text that is there already, in pieces like those of a model."""
    for piece in _PIECES.findall(text):
        await tell("token", Token(text=piece))


def _json(data: BaseModel) -> str:
    """A problem leaves out what it does not have, here as in a reply of its own; all else names every field."""
    return data.model_dump_json(exclude_none=isinstance(data, Problem))
