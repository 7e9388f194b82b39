"""Who may go on: rate limits by sliding-window log, and daily quotas of questions.

In any window of a limit's length exactly the limit is admitted, never more, whichever process admits. While Redis is
away each process counts by itself, by the same rule; and since it keeps count of all it admits, also before and after,
it never exceeds the limit by itself, however often Redis comes and goes.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from contextvars import Context
from functools import cache, partial
from typing import NamedTuple

from prometheus_client import Counter
from redis import RedisError
from redis.asyncio import Redis

from common.claims import Plan, PlayerClaims
from gateway.counts import QUESTION, Check, Count, OwnCounts, Quota, Window
from gateway.quotas import Bill, Calendar, Day
from gateway.routes import Route, WhenRedisAway
from gateway.settings import Limit, LimitName, Limits, Settings
from gateway.shared_counts import SharedCounts
from gateway.standing import DAY_SECONDS, Header, Standing, note, refusal, standing_headers, whole_seconds

logger = logging.getLogger(__name__)

# Once Redis has failed it is tried so often, and nobody waits for that.
OUTAGE_SECONDS = 2.0
# A question may be given back on the day after it was asked.
LONGEST_REPLY_SECONDS = 3600
# Callers whom a process counts by itself.
OWN_SUBJECTS = 50_000

fallbacks = Counter("gateway_rate_limit_fallbacks_total", "Requests counted by this process alone, Redis being away")
settlements = Counter("gateway_quota_settlements_total", "Questions given back, whole or in part", ["outcome"])

_PROBE = Check(Window("gateway:limit:probe", 1000, 1, binding=True))


class Admission(NamedTuple):
    """Leave to go on: headers that say where the caller stands, the bill of a question, and who it is where known."""

    headers: Callable[[], list[Header]]
    bill: Bill | None = None
    player: PlayerClaims | None = None


class _Counted(NamedTuple):
    result: Count
    # Whether Redis has counted it, and not this process alone.
    is_shared: bool


class RateLimiter:
    """Counts requests in the state Redis, and in this process; never fails."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._limits = settings.limits
        self._calendar = Calendar(settings.time_zone)
        self._shared = SharedCounts(redis)
        self._own = OwnCounts(OWN_SUBJECTS)
        # Redis is away for as long as this runs.
        self._recovery: asyncio.Task[None] | None = None

    async def admit(self, route: Route, subject: str, plan: Plan | None) -> Admission:
        """Count a request of a player, who has a plan, or of an address; raises TooManyRequestsError."""
        day = self._calendar.today()
        check = self._check(route.limit, subject, plan, day)
        counted = await self._count(check, when_away=route.when_redis_away)
        if counted is None:
            return Admission(list)
        count, is_shared = counted
        tell = partial(self._tell, route.limit, check, count, day)
        if not count.admits(check):
            raise refusal(tell())
        bill = None
        if check.quota and count.in_quota:
            bill = Bill(partial(self._give_back, check.quota.key, is_shared=is_shared))
        return Admission(cache(lambda: standing_headers(tell())), bill)

    async def aclose(self) -> None:
        """Settle what is to be settled, and let go of Redis."""
        if self._recovery:
            self._recovery.cancel()
        await self._shared.aclose()

    def _tell(self, group: LimitName, check: Check, count: Count, day: Day) -> list[Standing]:
        """Where the caller stands, as far as it is told; put down in the metrics, so once for each request."""
        standings, admitted = _standings(group, check, count, day), count.admits(check)
        for standing in standings:
            if admitted or not standing.is_open:
                note(standing, on_trial=standing.name in self._limits.shadow)
        return [standing for standing in standings if standing.name not in self._limits.shadow]

    def _check(self, group: LimitName, subject: str, plan: Plan | None, day: Day) -> Check:
        digest = hashlib.blake2b(subject.encode(), digest_size=16).hexdigest()  # keys name nobody
        limit = _limit(self._limits, group, plan)
        window = Window(f"gateway:limit:{group}:{digest}", *limit, binding=group not in self._limits.shadow)
        if group != "ask" or plan is None:
            return Check(window)
        quota = Quota(
            f"gateway:limit:questions_per_day:{day.name}:{digest}",
            tenths=self._limits.questions_per_day[plan] * QUESTION,
            expires_at=int(day.ends_at) + LONGEST_REPLY_SECONDS,
            binding="questions_per_day" not in self._limits.shadow,
        )
        return Check(window, quota)

    async def _count(self, check: Check, *, when_away: WhenRedisAway) -> _Counted | None:
        """None where nobody counts."""
        came_at = time.monotonic()
        if not self._recovery:
            # Redis does not know what this process admitted without it, and need not hear of what it refuses for it.
            own = self._own.look(check, came_at)
            if not own.admits(check):
                return _Counted(own, is_shared=False)
            try:
                shared = await self._shared.take(check)
            except RedisError as error:
                self._went_away(error)
            else:
                return self._also_count(check, shared, came_at)
        if when_away == "admit":
            return None
        fallbacks.inc()
        return _Counted(self._own.take(check, time.monotonic(), came_at=came_at), is_shared=False)

    def _also_count(self, check: Check, shared: Count, came_at: float) -> _Counted:
        """Count here what Redis admitted; after an outage this process may have admitted more than Redis knows."""
        if not shared.admits(check):
            return _Counted(shared, is_shared=True)
        own = self._own.take(check, time.monotonic(), came_at=came_at)
        if own.admits(check):
            return _Counted(shared, is_shared=True)
        if check.quota and shared.in_quota:
            self._shared.give_back(check.quota.key, QUESTION).add_done_callback(_note_settlement)
        return _Counted(own, is_shared=False)

    def _give_back(self, key: str, tenths: int, *, is_shared: bool) -> None:
        """Nobody waits for this: it goes with the next call to Redis."""
        self._own.give_back(key, tenths)
        if is_shared and self._recovery:
            settlements.labels("dropped").inc()
        elif is_shared:
            self._shared.give_back(key, tenths).add_done_callback(_note_settlement)

    def _went_away(self, error: RedisError) -> None:
        if not self._recovery:
            logger.error("state redis is away, limits are counted per process", extra={"reason": type(error).__name__})
            # In a context of its own: what it logs belongs to no request.
            self._recovery = asyncio.create_task(self._recover(), context=Context())

    async def _recover(self) -> None:
        """Try Redis until it counts again, by a write of our own."""
        while self._recovery:
            await asyncio.sleep(OUTAGE_SECONDS)
            try:
                await self._shared.take(_PROBE)
            except RedisError:
                continue
            self._recovery = None
            logger.warning("state redis is back")


def _standings(group: LimitName, check: Check, count: Count, day: Day) -> list[Standing]:
    window, quota = check
    tenths, reset = count.remaining * QUESTION, whole_seconds(count.reset_seconds)
    in_window = Standing(group, window.requests, window.seconds, tenths, reset, count.in_window)
    if quota is None:
        return [in_window]
    allowed, reset = quota.tenths // QUESTION, whole_seconds(day.ends_at - time.time())
    name: LimitName = "questions_per_day"
    return [in_window, Standing(name, allowed, DAY_SECONDS, count.tenths_left, reset, count.in_quota, day.midnight)]


def _limit(limits: Limits, group: LimitName, plan: Plan | None) -> Limit:
    limit: Limit = getattr(limits, group)[plan] if plan else getattr(limits, group)
    return limit


def _note_settlement(reply: asyncio.Future[int]) -> None:
    settlements.labels("dropped" if reply.cancelled() or reply.exception() else "given_back").inc()
