"""A turnstile by which a test, in its own thread, says when a server may go on."""

import asyncio
import math
import threading
from collections import deque
from concurrent.futures import Future


class Gate:
    """Closed at first; each release lets one more through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes = 0.0
        self._waiting: deque[Future[None]] = deque()

    def release(self, passes: float = 1) -> None:
        """Let `passes` more through; to be called from any thread."""
        with self._lock:
            self._passes += passes
            while self._waiting and self._passes >= 1:
                waiter = self._waiting.popleft()
                if waiter.set_running_or_notify_cancel():  # False: it left while it waited
                    self._passes -= 1
                    waiter.set_result(None)

    def open(self) -> None:
        """Let everyone through from now on."""
        self.release(math.inf)

    async def enter(self) -> None:
        """Take one pass, or wait for one."""
        with self._lock:
            if self._passes >= 1:
                self._passes -= 1
                return
            waiter: Future[None] = Future()
            self._waiting.append(waiter)
        await asyncio.wrap_future(waiter)
