"""What one request is counted against, and counting by this process alone, in memory."""

from collections import OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

# Quotas are kept in tenths of a question, since a cached answer costs one.
QUESTION = 10


class Window(NamedTuple):
    """At most `requests` in any `seconds`; one that does not bind is counted and refuses nothing."""

    key: str
    requests: int
    seconds: int
    binding: bool


class Quota(NamedTuple):
    """At most `tenths` of a question in the day that `key` names; nobody asks for the key after `expires_at`."""

    key: str
    tenths: int
    expires_at: int
    binding: bool


class Check(NamedTuple):
    """All that decides about a request: either everything in it admits the request and counts it, or nothing does."""

    window: Window
    quota: Quota | None = None


class Count(NamedTuple):
    """What counting a request against a `Check` came to; what was admitted is no longer among what remains."""

    in_window: bool
    remaining: int
    # Until the oldest request counted leaves the window, or, out of the window, until one more is admitted.
    reset_seconds: float
    in_quota: bool = True
    tenths_left: int = 0

    def admits(self, check: Check) -> bool:
        """Whether the request may pass."""
        in_quota = self.in_quota or check.quota is None or not check.quota.binding
        return in_quota and (self.in_window or not check.window.binding)


class OwnCounts:
    """What this process has admitted, by the rule of the script in `shared_counts`."""

    def __init__(self, subjects: int) -> None:
        """Beyond `subjects` callers the one seen longest ago is forgotten; all of whom nothing counts are anyway."""
        self._subjects = subjects
        # By the length of their window, so that whoever was seen longest ago is also the first of whom nothing counts.
        self._admissions: defaultdict[int, OrderedDict[str, deque[float]]] = defaultdict(OrderedDict)
        self._questions: OrderedDict[str, int] = OrderedDict()

    def look(self, check: Check, now: float) -> Count:
        """Whether the request would be admitted; counts nothing."""
        window, quota = check
        times = self._admissions[window.seconds].get(window.key) or deque[float]()
        while times and times[0] <= now - window.seconds:
            times.popleft()
        in_window = len(times) < window.requests
        first = times[0 if in_window else -window.requests] if times else now
        tenths_left = quota.tenths - self._questions.get(quota.key, 0) if quota else 0
        return Count(
            in_window,
            max(window.requests - len(times), 0),
            first + window.seconds - now,
            quota is None or tenths_left >= QUESTION,
            max(tenths_left, 0),
        )

    def take(self, check: Check, now: float, *, came_at: float) -> Count:
        """Count the request, which came at `came_at`, if it is admitted."""
        count = self.look(check, now)
        if not count.admits(check):
            return count
        if count.in_window:
            logs = self._admissions[check.window.seconds]
            logs.setdefault(check.window.key, deque()).append(came_at)
            self._keep(logs, check.window.key)
            while logs and next(iter(logs.values()))[-1] <= now - check.window.seconds:
                logs.popitem(last=False)
            count = count._replace(remaining=count.remaining - 1)
        if check.quota and count.in_quota:
            self._questions[check.quota.key] = self._questions.get(check.quota.key, 0) + QUESTION
            self._keep(self._questions, check.quota.key)
            count = count._replace(tenths_left=count.tenths_left - QUESTION)
        return count

    def give_back(self, key: str, tenths: int) -> None:
        """Lower what the quota `key` has counted; never below nothing."""
        if key in self._questions:
            self._questions[key] = max(self._questions[key] - tenths, 0)

    def _keep(self, counted: OrderedDict[str, Any], key: str) -> None:
        counted.move_to_end(key)
        if len(counted) > self._subjects:
            counted.popitem(last=False)
