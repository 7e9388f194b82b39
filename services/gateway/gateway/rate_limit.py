"""Rate limits by sliding-window log: in any window of the limit's length exactly `requests` are admitted, never more.

Of each subject the times of its admitted requests within the window are kept, in the state Redis, and one script
decides and records, by Redis's own clock, so that any number of gateways count as one. Without Redis each process
counts by itself, by the same rule.
"""

import logging
import math
import time
from collections import OrderedDict, deque
from typing import NamedTuple

from prometheus_client import Counter
from redis import RedisError
from redis.asyncio import Redis

from common.errors import Text, TooManyRequestsError
from gateway.settings import Limit

logger = logging.getLogger(__name__)

# KEYS[1]: a list of microseconds, newest first. ARGV: requests, window in microseconds.
# The list never outgrows the limit, and every entry is popped once, so the cost of a call is constant on average.
SLIDING_WINDOW_LOG = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local oldest = redis.call('LINDEX', KEYS[1], -1)
while oldest and tonumber(oldest) <= now - window do
  redis.call('RPOP', KEYS[1])
  oldest = redis.call('LINDEX', KEYS[1], -1)
end
local used = redis.call('LLEN', KEYS[1])
local admitted = used < limit
if admitted then
  redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
  used = used + 1
end
return {admitted and 1 or 0, math.max(limit - used, 0), tonumber(oldest or now) + window - now}
"""

# After a failure Redis is left alone for so long: a request must not wait for a server that hangs.
OUTAGE_SECONDS = 2.0
# Subjects counted locally, at most; the one seen longest ago is forgotten first.
LOCAL_SUBJECTS = 50_000

decisions = Counter("gateway_rate_limit_decisions_total", "Requests by limit and outcome", ["limit", "outcome"])
fallbacks = Counter("gateway_rate_limit_fallbacks_total", "Requests counted by this process alone, Redis being away")


class Decision(NamedTuple):
    """What a limit said to one request."""

    name: str
    limit: Limit
    admitted: bool
    remaining: int
    # Until the oldest counted request leaves the window.
    reset_seconds: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The limit in the words of draft-ietf-httpapi-ratelimit-headers-06."""
        requests, seconds = self.limit
        return [
            (b"ratelimit-limit", b"%d" % requests),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset_seconds),
            (b"ratelimit-policy", f'{requests};w={seconds};comment="{self.name}"'.encode()),
        ]

    def refusal(self) -> TooManyRequestsError:
        """The 429 that says which limit, what remains, and when it resets."""
        requests, seconds = self.limit
        detail = Text(
            f"The limit '{self.name}' allows {requests} requests in {seconds} s; {self.remaining} remain. "
            f"Try again in {self.reset_seconds} s",
            f"'{self.name}' 한도는 {seconds}초에 {requests}회이며 {self.remaining}회 남았습니다. "
            f"{self.reset_seconds}초 후에 다시 시도해 주세요",
        )
        told = {name.decode(): value.decode() for name, value in self.headers()}
        return TooManyRequestsError(detail, headers={"Retry-After": str(self.reset_seconds), **told})


class RateLimiter:
    """Counts requests in the state Redis, or in this process while Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(SLIDING_WINDOW_LOG)
        self._local = _LocalWindows()
        self._away_until = float("-inf")
        self._is_away = False

    async def hit(self, name: str, subject: str, limit: Limit) -> Decision:
        """Count one request of `subject` against the limit `name`; never fails."""
        admitted, remaining, reset = await self._count(f"gateway:limit:{name}:{subject}", limit)
        decisions.labels(name, "admitted" if admitted else "refused").inc()
        return Decision(name, limit, bool(admitted), remaining, max(math.ceil(reset), 1))

    async def _count(self, key: str, limit: Limit) -> tuple[bool, int, float]:
        if time.monotonic() >= self._away_until:
            try:
                admitted, remaining, reset = await self._script((key,), (limit.requests, limit.seconds * 1_000_000))
            except RedisError as error:
                self._went_away(error)
            else:
                self._came_back()
                return bool(admitted), remaining, reset / 1_000_000
        fallbacks.inc()
        return self._local.hit(key, limit, time.monotonic())

    def _went_away(self, error: RedisError) -> None:
        self._away_until = time.monotonic() + OUTAGE_SECONDS
        if not self._is_away:
            self._is_away = True
            logger.error("state redis is away, limits are counted per process", extra={"reason": type(error).__name__})

    def _came_back(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.warning("state redis is back")


class _LocalWindows:
    """The same rule in memory."""

    def __init__(self) -> None:
        self._admissions: OrderedDict[str, deque[float]] = OrderedDict()

    def hit(self, key: str, limit: Limit, now: float) -> tuple[bool, int, float]:
        """Whether it is admitted, how many remain, seconds until one more would."""
        times = self._admissions.setdefault(key, deque())
        self._admissions.move_to_end(key)
        if len(self._admissions) > LOCAL_SUBJECTS:
            self._admissions.popitem(last=False)
        while times and times[0] <= now - limit.seconds:
            times.popleft()
        admitted = len(times) < limit.requests
        if admitted:
            times.append(now)
        return admitted, max(limit.requests - len(times), 0), times[0] + limit.seconds - now
