"""Daily quotas of questions: the calendar they follow, and what a question costs in the end.

A question is paid in full when it is asked, and what it did not cost is given back when its reply has ended. So a
player never has more questions running than paid for, and a crash in between costs the player, not us.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.counts import QUESTION

# By this header coach says what an answer costs; it does not leave the gateway.
COST_HEADER = b"dugout-question-cost"
_TENTHS = {b"0": 0, b"0.1": 1, b"1": QUESTION}

# The name of the event that ends a whole stream; a text of the answer cannot hold it, for its line ends are escaped.
_DONE = b"\nevent: done\n"


class Day(NamedTuple):
    """A calendar day, as seconds since 1970."""

    name: str
    begins_at: float
    ends_at: float
    # When it ends, on the wall.
    midnight: datetime


class Calendar:
    """The days of a time zone."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._day: Day | None = None

    def today(self) -> Day:
        """The day it is; worked out once a day."""
        now = time.time()
        if self._day is None or not self._day.begins_at <= now < self._day.ends_at:
            begin = datetime.fromtimestamp(now, self._zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
            end = begin + timedelta(days=1)  # by the calendar: a day may have 23 hours
            self._day = Day(f"{begin:%Y%m%d}", begin.timestamp(), end.timestamp(), end)
        return self._day


class Bill:
    """What a question costs, found out while its reply passes: nothing unless it arrives whole.

    A player who leaves pays, if coach was asked: the model has been, too.
    """

    def __init__(self, give_back: Callable[[int], None]) -> None:
        self._give_back: Callable[[int], None] | None = give_back
        self._cost = 0
        self._whole = 0
        self._is_stream = False
        self._is_done = False
        self._tail = b"\n"

    def asked(self) -> None:
        """The question goes to the service."""
        self._whole = QUESTION

    def replied(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head of the reply; names of headers in any case."""
        told = {name.lower(): value for name, value in headers}
        self._whole = 0 if status >= 400 else _TENTHS.get(told.get(COST_HEADER, b"1"), QUESTION)
        self._is_stream = told.get(b"content-type", b"").startswith(b"text/event-stream")

    def passed(self, piece: bytes) -> None:
        """A piece of its body: a stream is whole once it has told `done`, not when it ends in `error`."""
        if self._is_stream and not self._is_done:
            text = self._tail + piece
            self._is_done = _DONE in text
            self._tail = text[-len(_DONE) :]

    def ended(self) -> None:
        """The service has sent the whole reply."""
        if self._is_done or not self._is_stream:
            self._cost = self._whole

    def left(self) -> None:
        """The player has gone, or the session has ended."""
        self._cost = self._whole

    def settle(self) -> None:
        """Give back what it did not cost, once."""
        give_back, self._give_back = self._give_back, None
        if give_back and self._cost < QUESTION:
            give_back(QUESTION - self._cost)
