"""Four gateway processes before one Redis, and 1,000 requests at once: exactly the limit, in any window."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from redis.asyncio import Redis

from common.redis import redis_client
from common.testing import Tokens

from .conftest import ScriptedService
from .process import gateway_process
from .redis_server import RedisServer, redis_server

PROCESSES, AT_ONCE, CONNECTIONS = 4, 1000, 400
REQUESTS, SECONDS = 50, 3
ASK, GAMES = "/api/coach/ask", "/api/coach/games"
QUESTIONS = 100

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def state() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def gateways(state: RedisServer, auth_url: str, service_url: str) -> AsyncIterator[list[str]]:
    """The addresses of four processes with one limit."""
    plans = {plan: [REQUESTS, SECONDS] for plan in ("free", "premium")}
    roomy = {plan: [100_000, 60] for plan in plans}
    limits = {"player": plans, "ask": roomy, "questions_per_day": dict.fromkeys(plans, QUESTIONS)}
    told = {"state_redis_url": state.url, "limits": json.dumps(limits)}
    services = {"auth_url": auth_url, "coach_url": service_url, "admin_url": service_url}
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(gateway_process(**told, **services)) for _ in range(PROCESSES)]
        yield [process.url for process in started]


async def flood(urls: list[str], path: str, player: dict[str, str], requests: int) -> list[tuple[int, float, float]]:
    """Status and first and last moment of so many requests, all begun at once, by Redis's clock, which is ours."""

    async def one(session: aiohttp.ClientSession, url: str) -> tuple[int, float, float]:
        began = time.time()
        async with session.get(url + path) as response:
            return response.status, began, time.time()

    # Not httpx: its pool alone would take longer than the window.
    async with aiohttp.ClientSession(headers=player, connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        return await asyncio.gather(*(one(session, urls[number % len(urls)]) for number in range(requests)))


async def until(moment: float) -> None:
    """Sleep until so many seconds since 1970."""
    await asyncio.sleep(max(moment - time.time(), 0))


async def admissions(redis: Redis) -> Counter[int]:
    """The microseconds, by Redis's clock, at which what still counts was admitted, and how often at each."""
    [key] = await redis.keys("gateway:limit:player:*")
    return Counter(int(stamp) for stamp in await redis.lrange(key, 0, -1))


async def test_1000_requests_at_once_are_admitted_exactly_up_to_the_limit(gateways: list[str], tokens: Tokens) -> None:
    for _ in range(3):
        came = await flood(gateways, GAMES, tokens.headers(), AT_ONCE)
        assert max(done for *_, done in came) - min(began for _, began, _ in came) < SECONDS, "too slow to prove it"
        assert sorted(status for status, *_ in came) == [200] * REQUESTS + [429] * (AT_ONCE - REQUESTS)


async def test_windows_across_a_minute_and_across_their_own_edge_hold_exactly_the_limit(
    gateways: list[str], state: RedisServer, tokens: Tokens
) -> None:
    player, minute = tokens.headers(), (time.time() // 60 + 1) * 60
    if minute - time.time() < 2:
        minute += 60
    state.do("FLUSHALL")
    await until(minute - 1)
    # Half of the limit before the minute, then all at once around it, then around the edge of the first window.
    before = await flood(gateways, GAMES, player, REQUESTS // 2)
    assert [status for status, *_ in before] == [200] * (REQUESTS // 2)
    around = await flood(gateways, GAMES, player, AT_ONCE)
    assert sum(status == 200 for status, *_ in around) == REQUESTS - REQUESTS // 2
    async with redis_client(state.url) as redis:
        stamps = await admissions(redis)
        edge = min(stamps) / 1e6 + SECONDS
        await until(edge - 0.2)
        came = []
        while time.time() < edge + SECONDS:
            came += await flood(gateways, GAMES, player, 100)
            stamps |= await admissions(redis)
    admitted = sum(status == 200 for status, *_ in [*before, *around, *came])
    ordered = sorted(stamps.elements())
    assert len(ordered) == admitted
    windows = [sum(start <= at < start + SECONDS * 1_000_000 for at in ordered) for start in ordered]
    assert max(windows) == REQUESTS
    # And as soon as one leaves, one more is admitted: nothing of the limit is withheld while the flood lasts.
    assert admitted >= 2 * REQUESTS
    requests = len(before) + len(around) + len(came)
    print(f"{requests} requests, {admitted} admitted, at most {max(windows)} in any window")


async def test_500_questions_at_once_never_exceed_the_day_and_settle_exactly(
    gateways: list[str], state: RedisServer, service: ScriptedService, tokens: Tokens
) -> None:
    came = await flood(gateways, ASK, tokens.headers(), 500)
    # The scripted service names no cost: each question costs one.
    assert sorted(status for status, *_ in came) == [200] * QUESTIONS + [429] * (500 - QUESTIONS)
    async with redis_client(state.url) as redis:
        [key] = await redis.keys("gateway:limit:questions_per_day:*")
        assert int(await redis.get(key)) == QUESTIONS * 10
