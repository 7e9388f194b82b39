"""The rule of the limits, in Redis and in memory, against one simple enough to be seen to be right."""

import tracemalloc
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from common.redis import redis_client
from gateway import counts
from gateway.counts import QUESTION, Check, Count, OwnCounts, Quota, Window
from gateway.shared_counts import SCRIPT

SECONDS = 4
MICROSECONDS = SECONDS * 1_000_000
# Around the edges of a window, to the microsecond.
STEPS = st.sampled_from([0, 1, MICROSECONDS // 2, MICROSECONDS - 1, MICROSECONDS, MICROSECONDS + 1])
# Midnight of a minute, so that windows straddle it.
BEGIN = 1_800_000_000 * 1_000_000 - MICROSECONDS


class Step(NamedTuple):
    """A request `after` microseconds, under limits that may have changed, or a question given back."""

    after: int
    requests: int
    window_binds: bool
    tenths: int
    quota_binds: bool
    given_back: int


STORIES = st.lists(
    st.builds(
        Step,
        after=STEPS,
        requests=st.integers(1, 4),
        window_binds=st.booleans(),
        tenths=st.sampled_from([0, 10, 25, 40]),
        quota_binds=st.booleans(),
        given_back=st.sampled_from([0, 0, 1, 9, 10]),
    ),
    max_size=25,
)


class Model:
    """Every admission is kept for ever, and counted anew each time."""

    def __init__(self) -> None:
        self.admissions: list[int] = []
        self.tenths = 0

    def give_back(self, tenths: int) -> None:
        self.tenths = max(self.tenths - tenths, 0)

    def take(self, now: int, step: Step) -> Count:
        current = [at for at in self.admissions if at > now - MICROSECONDS]
        in_window = len(current) < step.requests
        in_quota = step.tenths == 0 or self.tenths + QUESTION <= step.tenths
        # In the window: until its oldest leaves. Out of it: until so many have left that one more would be admitted.
        first = (current or [now])[0] if in_window else current[-step.requests]
        if (in_window or not step.window_binds) and (in_quota or not step.quota_binds):
            current += [now] * in_window
            self.admissions += [now] * in_window
            self.tenths += QUESTION * (in_quota and step.tenths > 0)
        remaining, tenths_left = step.requests - len(current), step.tenths - self.tenths
        return Count(in_window, max(remaining, 0), first + MICROSECONDS - now, in_quota, max(tenths_left, 0))


def check_of(step: Step) -> Check:
    quota = Quota("quota", step.tenths, 4_000_000_000, step.quota_binds) if step.tenths else None
    return Check(Window("window", step.requests, SECONDS, step.window_binds), quota)


@given(STORIES)
@settings(max_examples=300, deadline=None)
def test_memory_decides_as_the_model_does(story: list[Step]) -> None:
    own, model, now = OwnCounts(10), Model(), BEGIN
    for step in story:
        now += step.after
        own.give_back("quota", step.given_back)
        model.give_back(step.given_back)
        # Whole numbers, by which no edge is lost in rounding.
        check = check_of(step)
        check = check._replace(window=check.window._replace(seconds=MICROSECONDS))
        looked, taken, expected = own.look(check, now), own.take(check, now, came_at=now), model.take(now, step)
        assert taken == expected
        assert (looked.in_window, looked.in_quota) == (expected.in_window, expected.in_quota)


@pytest.fixture
async def state_redis(redis_urls: dict[str, str]) -> AsyncIterator[Redis]:
    async with redis_client(redis_urls["state"]) as client:
        yield client


async def take(redis: Redis, now: int, step: Step) -> Count:
    """Run the script at a time of our choice."""
    script = SCRIPT.replace("redis.call('TIME')", f"{{{now // 1_000_000}, {now % 1_000_000}}}")
    keys = ["window", "quota"][: 2 if step.tenths else 1]
    numbers = [1, step.requests, MICROSECONDS, int(step.window_binds)]
    numbers += [step.tenths, QUESTION, int(step.quota_binds), 4_000_000_000]
    give = [0, step.given_back]
    replies = await redis.eval(script, len(keys) + 1, "quota", *keys, *give, *numbers)
    in_window, remaining, reset, in_quota, tenths_left = replies[1]
    return Count(bool(in_window), remaining, reset, bool(in_quota), tenths_left)


@given(STORIES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_script_decides_as_the_model_does(state_redis: Redis, story: list[Step]) -> None:
    await state_redis.delete("window", "quota")
    model, now = Model(), BEGIN
    for step in story:
        now += step.after
        model.give_back(step.given_back)
        assert await take(state_redis, now, step) == model.take(now, step)


def test_a_request_that_waited_for_longer_than_its_window_counts_no_more() -> None:
    own, check = OwnCounts(10), Check(Window("slow", 5, 1, binding=True))
    assert own.take(check, 2.0, came_at=1.0).in_window
    assert own.look(check, 2.0).remaining == 5


def test_a_flood_from_many_addresses_leaves_nothing_in_memory() -> None:
    own = OwnCounts(1000)
    tracemalloc.start()
    for number in range(200):
        for _ in range(100):
            own.take(Check(Window(f"address {number}", 100, 60, binding=True)), float(number), came_at=float(number))
    for key, seconds in (("rare", 3600), ("next", 60)):
        own.take(Check(Window(key, 100, seconds, binding=True)), 300.0, came_at=300.0)
    taken_there = tracemalloc.Filter(inclusive=True, filename_pattern=counts.__file__)
    held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([taken_there]).traces)
    tracemalloc.stop()
    assert held < 20_000


def test_who_was_not_seen_for_longest_is_forgotten_first() -> None:
    own = OwnCounts(2)
    for key in ("first", "second", "first", "third"):
        own.take(Check(Window(key, 5, 60, binding=True)), 1.0, came_at=1.0)
    remaining = [own.look(Check(Window(key, 5, 60, binding=True)), 1.0).remaining for key in ("first", "second")]
    assert remaining == [3, 5]
