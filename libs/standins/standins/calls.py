"""The record of what a stand-in was asked, and of what became of each call."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SECRET_HEADERS = {"authorization", "cookie"}


@dataclass(kw_only=True)
class Call:
    """One request. Its times are `time.monotonic()`, which a test in the same process can compare with its own."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any  # parsed where it is JSON, else text
    arrived_at: float = field(default_factory=time.monotonic)
    status: int | None = None  # None: not a byte was sent
    sent_at: list[float] = field(default_factory=list)  # one per token
    disconnected_at: float | None = None  # the client left before the reply was whole
    ended_at: float | None = None
    # What a provider would bill, whatever usage the reply reported.
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        """For logs and people: without credentials, times in seconds since the call arrived."""
        arrived = datetime.now(UTC).timestamp() - (time.monotonic() - self.arrived_at)
        return {
            "at": datetime.fromtimestamp(arrived, UTC).isoformat(timespec="milliseconds"),
            "method": self.method,
            "path": self.path,
            "headers": {name: "…" if name in SECRET_HEADERS else value for name, value in self.headers.items()},
            "body": self.body,
            "status": self.status,
            "sent_after": [round(sent - self.arrived_at, 4) for sent in self.sent_at],
            "disconnected": self.disconnected_at is not None,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


class CallRecord:
    """All calls of one stand-in, written by its thread and read by any."""

    def __init__(self, log: Path | None = None) -> None:
        self._changed = threading.Condition()
        self._calls: list[Call] = []
        self._log = log

    def all(self) -> list[Call]:
        """Calls so far, oldest first."""
        with self._changed:
            return list(self._calls)

    def add(self, call: Call) -> None:
        """A call has arrived."""
        with self.changing():
            self._calls.append(call)

    def end(self, call: Call) -> None:
        """A call is over, one way or another."""
        with self.changing():
            call.ended_at = time.monotonic()
            if self._log:
                with self._log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(call.as_json(), ensure_ascii=False) + "\n")

    def clear(self) -> None:
        """Forget all calls."""
        with self.changing():
            self._calls.clear()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold readers off while a call is changed, then tell those who wait."""
        with self._changed:
            yield
            self._changed.notify_all()

    async def until(self, condition: Callable[[list[Call]], object], within: float) -> list[Call]:
        """The calls, as soon as `condition` holds for them; TimeoutError if it does not in time."""

        def wait() -> list[Call] | None:
            with self._changed:
                held = self._changed.wait_for(lambda: condition(self._calls), within)
                return list(self._calls) if held else None

        calls = await asyncio.to_thread(wait)
        if calls is None:
            raise TimeoutError(f"still not so after {within} s; calls so far: {self.all()}")
        return calls

    def as_json(self) -> dict[str, Any]:
        """What `GET /calls` answers."""
        calls = self.all()
        return {
            "count": len(calls),
            "by_path": dict(Counter(call.path for call in calls)),
            "calls": [call.as_json() for call in calls],
        }
