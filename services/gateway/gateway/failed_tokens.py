"""Addresses whose tokens keep failing: a flood of forged ones costs no more signature checks than the limit."""

import time

from gateway.counts import Check, Count, OwnCounts, Window
from gateway.settings import Limits
from gateway.standing import Standing, note, refusal, whole_seconds

# The one seen longest ago is forgotten first.
ADDRESSES = 50_000


class FailedTokens:
    """Counted per process, since it is the process's time that is protected, and at once, with nothing to wait for."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.failed_tokens
        self._on_trial = "failed_tokens" in limits.shadow
        self._own = OwnCounts(ADDRESSES)

    def are_too_many(self, address: str) -> bool:
        """Whether one more token from there is not to be looked at."""
        return not self._look(address).in_window

    def refuse(self, address: str) -> None:
        """Raise TooManyRequestsError, unless the limit is on trial."""
        reset = whole_seconds(self._look(address).reset_seconds)
        standing = Standing("failed_tokens", *self._limit, 0, reset, is_open=False)
        note(standing, on_trial=self._on_trial)
        if not self._on_trial:
            raise refusal([standing])

    def add(self, address: str) -> None:
        """One more has failed."""
        now = time.monotonic()
        self._own.take(self._check(address), now, came_at=now)

    def _look(self, address: str) -> Count:
        return self._own.look(self._check(address), time.monotonic())

    def _check(self, address: str) -> Check:
        return Check(Window(address, *self._limit, binding=True))
