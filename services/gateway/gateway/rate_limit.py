"""Who may go on: rate limits by sliding-window log, and daily quotas of questions.

In any window of a limit's length exactly the limit is admitted, never more, whichever process admits. While Redis is
away each process counts by itself, by the same rule; and since it keeps count of all it admits, also before and after,
it never exceeds the limit by itself, however often Redis comes and goes.
"""

import asyncio
import hashlib
import logging
import time
from functools import cache, partial
from typing import NamedTuple

from prometheus_client import Counter
from redis import RedisError
from redis.asyncio import Redis

from common.claims import Plan, PlayerClaims
from common.errors import TooManyRequestsError
from gateway.counts import QUESTION, Check, Count, OwnCounts, Quota, Window
from gateway.quotas import Bill, Calendar
from gateway.routes import Route, WhenRedisAway
from gateway.settings import Limit, LimitName, Limits, Settings
from gateway.shared_counts import SharedCounts
from gateway.standing import DAY_SECONDS, Header, Standing, refusal, standing_headers, whole_seconds

logger = logging.getLogger(__name__)

# Once Redis has failed it is tried so often, and nobody waits for that.
OUTAGE_SECONDS = 2.0
# A question may be given back on the day after it was asked.
LONGEST_REPLY_SECONDS = 3600
# Callers whom a process counts by itself.
OWN_SUBJECTS = 50_000

decisions = Counter("gateway_rate_limit_decisions_total", "Requests by limit and outcome", ["limit", "outcome"])
fallbacks = Counter("gateway_rate_limit_fallbacks_total", "Requests counted by this process alone, Redis being away")
settlements = Counter("gateway_quota_settlements_total", "Questions given back, whole or in part", ["outcome"])
_decided = cache(decisions.labels)  # finding a child by its labels takes longer than counting with it

_PROBE = Check(Window("gateway:limit:probe", 1000, 1, binding=True))


class Admission(NamedTuple):
    """Leave to go on: headers that say where the caller stands, the bill of a question, and who it is where known."""

    headers: list[Header]
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
        check = self._check(route.limit, subject, plan)
        counted = await self._count(check, when_away=route.when_redis_away)
        if counted is None:
            return Admission([])
        count, is_shared = counted
        admitted = count.admits(check)
        standings = self._standings(route.limit, check, count)
        for standing in standings:
            self._note(standing, admitted=admitted)
        told = [standing for standing in standings if standing.name not in self._limits.shadow]
        if not admitted:
            raise refusal(told)
        bill = None
        if check.quota and count.in_quota:
            bill = Bill(partial(self._give_back, check.quota.key, is_shared=is_shared))
        return Admission(standing_headers(told), bill)

    async def aclose(self) -> None:
        """Settle what is to be settled, and let go of Redis."""
        if self._recovery:
            self._recovery.cancel()
        await self._shared.aclose()

    def _check(self, group: LimitName, subject: str, plan: Plan | None) -> Check:
        digest = hashlib.blake2b(subject.encode(), digest_size=16).hexdigest()  # keys name nobody
        limit = _limit(self._limits, group, plan)
        window = Window(f"gateway:limit:{group}:{digest}", *limit, binding=group not in self._limits.shadow)
        if group != "ask" or plan is None:
            return Check(window)
        day = self._calendar.today()
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

    def _standings(self, group: LimitName, check: Check, count: Count) -> list[Standing]:
        window, quota = check
        in_window = Standing(
            group,
            window.requests,
            window.seconds,
            count.remaining * QUESTION,
            whole_seconds(count.reset_seconds),
            count.in_window,
        )
        if quota is None:
            return [in_window]
        midnight = self._calendar.midnight()
        in_quota = Standing(
            "questions_per_day",
            quota.tenths // QUESTION,
            DAY_SECONDS,
            count.tenths_left,
            whole_seconds(midnight.timestamp() - time.time()),
            count.in_quota,
            midnight,
        )
        return [in_window, in_quota]

    def _note(self, standing: Standing, *, admitted: bool) -> None:
        if standing.is_open:
            if admitted:
                _decided(standing.name, "admitted").inc()
        elif standing.name in self._limits.shadow:
            _decided(standing.name, "shadow_refused").inc()
            logger.info("a shadow limit would have refused", extra={"limit": standing.name})
        else:
            _decided(standing.name, "refused").inc()

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
            self._recovery = asyncio.create_task(self._recover())

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


class FailedTokens:
    """Addresses whose tokens keep failing, so that a flood of forged ones costs no more signature checks.

    Counted per process, since it is the process's time that is protected, and at once, with nothing to wait for.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.failed_tokens
        self._binding = "failed_tokens" not in limits.shadow
        # Apart from the callers above: a flood from many addresses must not make us forget whom we admitted.
        self._own = OwnCounts(OWN_SUBJECTS)

    def refusal(self, address: str) -> TooManyRequestsError | None:
        """What to answer to one more token from there, if it is too many."""
        count = self._own.look(self._check(address), time.monotonic())
        if count.in_window:
            return None
        outcome = "refused" if self._binding else "shadow_refused"
        _decided("failed_tokens", outcome).inc()
        if not self._binding:
            return None
        reset = whole_seconds(count.reset_seconds)
        return refusal([Standing("failed_tokens", *self._limit, 0, reset, is_open=False)])

    def note(self, address: str) -> None:
        """One more has failed."""
        now = time.monotonic()
        self._own.take(self._check(address), now, came_at=now)

    def _check(self, address: str) -> Check:
        return Check(Window(address, *self._limit, binding=True))


def _limit(limits: Limits, group: LimitName, plan: Plan | None) -> Limit:
    limit: Limit = getattr(limits, group)[plan] if plan else getattr(limits, group)
    return limit


def _note_settlement(reply: asyncio.Future[int]) -> None:
    settlements.labels("dropped" if reply.cancelled() or reply.exception() else "given_back").inc()
