"""How much one service is asked at once: so many requests in flight, so many waiting, and the others are shed at once.

A service that has become slow would otherwise collect requests until gateway and service have no memory left, and its
players wait for replies that nobody reads any more. Every service has slots of its own, so it cannot take another's.
"""

import asyncio
import time
from collections import deque

from prometheus_client import Counter, Gauge, Histogram

from common.errors import Text, UnavailableError

queue_seconds = Histogram(
    "gateway_upstream_queue_seconds",
    "Time that requests waited for a slot, of those that had to",
    ["service"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)
shed = Counter("gateway_upstream_shed_total", "Requests refused for want of a slot", ["service", "reason"])
in_flight = Gauge("gateway_upstream_in_flight", "Requests that hold a slot, open streams included", ["service"])
waiting = Gauge("gateway_upstream_waiting", "Requests that wait for a slot", ["service"])

BUSY = Text(
    "Too many requests are being answered, please try again", "처리 중인 요청이 많습니다. 잠시 후 다시 시도해 주세요"
)


class Capacity:
    """The slots of one service; whoever waits longest gets the next one."""

    def __init__(self, service: str, *, slots: int, waiting_places: int, wait_seconds: float) -> None:
        self._service = service
        self._free = slots
        self._places = waiting_places
        self._seconds = wait_seconds
        self._queue: deque[asyncio.Future[None]] = deque()
        in_flight.labels(service).set_function(lambda: slots - self._free)
        waiting.labels(service).set_function(lambda: len(self._queue))

    def take(self) -> bool:
        """Take a slot if one is free; nobody is overtaken, since a slot that is given back goes to who waits."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Wait for a slot; raises UnavailableError when too many wait already, or it takes too long."""
        if len(self._queue) >= self._places:
            shed.labels(self._service, "full").inc()
            raise UnavailableError(BUSY)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._seconds):
                await turn
        except BaseException as error:
            self._leave_queue(turn)
            if not isinstance(error, TimeoutError):
                raise
            shed.labels(self._service, "waited").inc()
            raise UnavailableError(BUSY) from None
        finally:
            queue_seconds.labels(self._service).observe(time.perf_counter() - started)

    def give_back(self) -> None:
        """The request has ended: its slot goes to the one that waits longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():  # or its client has just left
                turn.set_result(None)
                return
        self._free += 1

    def _leave_queue(self, turn: asyncio.Future[None]) -> None:
        """Stop waiting; a slot that came at the same moment is handed on."""
        if turn in self._queue:
            self._queue.remove(turn)
        elif not turn.cancelled():
            self.give_back()
