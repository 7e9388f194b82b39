"""The limits while the state Redis is gone, hangs, is slow, takes no writes, forgot the script, or comes and goes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from redis.asyncio import Redis

from common.errors import TooManyRequestsError
from common.redis import redis_client
from common.testing import Tokens
from gateway.rate_limit import RateLimiter
from gateway.routes import find_route
from gateway.settings import Limit, Limits, Settings

from .conftest import OpenGateway, ScriptedService
from .process import gateway_process
from .redis_server import RedisServer, redis_server

ASK, GAMES, ADMIN = "/api/coach/ask", "/api/coach/games", "/admin/stats"
# The longest a decision may take: Redis's timeout, and what a busy machine adds.
PATIENCE_SECONDS = 2.5


def limits(requests: int, seconds: int = 60) -> Limits:
    plans = {"free": Limit(requests, seconds), "premium": Limit(requests, seconds)}
    return Limits(ask=plans, player=plans, ops=Limit(requests, seconds), questions_per_day={"free": 4, "premium": 9})


@pytest.fixture(scope="module")
def one_server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def server(one_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A healthy, empty server; whether it is back is found out quickly."""
    monkeypatch.setattr("gateway.rate_limit.OUTAGE_SECONDS", 0.1)
    one_server.do("FLUSHALL")
    return one_server


@pytest.fixture
async def state_redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with redis_client(server.url) as client:
        yield client


@pytest.fixture
async def open_limiter(server: RedisServer, state_redis: Redis) -> AsyncIterator[Callable[[Limits], RateLimiter]]:
    opened: list[RateLimiter] = []

    def start(limits: Limits) -> RateLimiter:
        url, secret = SecretStr(server.url), SecretStr("gateway-secret-of-the-tests")
        settings = Settings(env="development", state_redis_url=url, client_secret=secret, limits=limits)
        opened.append(RateLimiter(settings, state_redis))
        return opened[-1]

    yield start
    for limiter in opened:
        await limiter.aclose()


async def admitted(limiter: RateLimiter, times: int = 1, path: str = GAMES) -> int:
    """How many of so many requests of one player at once."""
    route = find_route(path, path)
    assert route
    came = await asyncio.gather(
        *(limiter.admit(route, "user:somebody", "free") for _ in range(times)), return_exceptions=True
    )
    assert all(not isinstance(one, BaseException) or isinstance(one, TooManyRequestsError) for one in came)
    return sum(not isinstance(one, BaseException) for one in came)


def fallbacks() -> float:
    return REGISTRY.get_sample_value("gateway_rate_limit_fallbacks_total") or 0.0


def settlements(outcome: str) -> float:
    return REGISTRY.get_sample_value("gateway_quota_settlements_total", {"outcome": outcome}) or 0.0


async def back(limiter: RateLimiter) -> int:
    """Ask until Redis counts again, which must be soon; how often that was admitted."""
    came = 0
    for _ in range(100):
        before = fallbacks()
        came += await admitted(limiter)
        if fallbacks() == before:
            return came
        await asyncio.sleep(0.05)
    pytest.fail("Redis is not back")


def break_by_freezing(server: RedisServer) -> None:
    server.freeze()


def break_by_slowness(server: RedisServer) -> None:
    server.do("CLIENT", "PAUSE", 2000, "ALL")


def break_by_making_it_a_replica(server: RedisServer) -> None:
    server.do("REPLICAOF", "127.0.0.1", "1")


def break_by_filling_its_memory(server: RedisServer) -> None:
    server.do("CONFIG", "SET", "maxmemory", 1)


def mend(server: RedisServer) -> None:
    server.thaw()
    for _ in range(50):
        try:
            server.do("REPLICAOF", "NO", "ONE")
            server.do("CONFIG", "SET", "maxmemory", 0)
        except Exception:  # noqa: BLE001 - still slow
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize(
    "break_it",
    [break_by_freezing, break_by_slowness, break_by_making_it_a_replica, break_by_filling_its_memory],
)
async def test_a_redis_that_does_not_count_costs_one_short_wait_and_no_request(
    server: RedisServer,
    open_limiter: Callable[[Limits], RateLimiter],
    break_it: Callable[[RedisServer], None],
) -> None:
    limiter = open_limiter(limits(20))
    assert await admitted(limiter, 5) == 5
    break_it(server)
    try:
        # All who come before it is known wait once, together.
        started = time.monotonic()
        assert await admitted(limiter, 300) == 15
        assert time.monotonic() - started < PATIENCE_SECONDS
        # From then on nobody does, however often Redis is tried meanwhile.
        for _ in range(20):
            started = time.monotonic()
            assert await admitted(limiter, 5) == 0
            assert time.monotonic() - started < 0.5
            await asyncio.sleep(0.03)
    finally:
        mend(server)
    await back(limiter)


async def test_a_redis_that_forgot_the_script_is_told_again(
    server: RedisServer, open_limiter: Callable[[Limits], RateLimiter]
) -> None:
    limiter, before = open_limiter(limits(3)), fallbacks()
    assert await admitted(limiter) == 1
    server.do("SCRIPT", "FLUSH")
    assert await admitted(limiter, 5) == 2
    assert fallbacks() == before


async def test_a_lost_connection_loses_no_count(
    server: RedisServer, open_limiter: Callable[[Limits], RateLimiter]
) -> None:
    limiter = open_limiter(limits(3))
    assert await admitted(limiter) == 1
    server.do("CLIENT", "KILL", "TYPE", "normal")
    assert await admitted(limiter, 5) == 2
    await back(limiter)
    assert await admitted(limiter, 5) == 0


async def test_a_process_never_exceeds_the_limit_however_often_redis_comes_and_goes(
    server: RedisServer, open_limiter: Callable[[Limits], RateLimiter]
) -> None:
    limiter, came = open_limiter(limits(40)), 0
    for _ in range(3):
        came += await admitted(limiter, 2)
        break_by_making_it_a_replica(server)
        came += await admitted(limiter, 2)
        mend(server)
        server.do("FLUSHALL")  # and what it knew may be lost
        came += await back(limiter)
    # Redis, which forgot, would admit nearly all of them.
    assert came + await admitted(limiter, 60) == 40
    [key] = server.do("KEYS", "gateway:limit:player:*")
    known = server.do("LLEN", key)
    assert await admitted(limiter, 50) == 0
    assert server.do("LLEN", key) == known


async def test_a_quota_is_counted_and_given_back_without_redis_too(
    server: RedisServer, open_limiter: Callable[[Limits], RateLimiter]
) -> None:
    limiter, route = open_limiter(limits(50)), find_route(ASK, ASK)
    assert route
    first = await limiter.admit(route, "user:somebody", "free")
    break_by_making_it_a_replica(server)
    try:
        assert await admitted(limiter, 10, ASK) == 3
        dropped = settlements("dropped")
        assert first.bill
        first.bill.settle()
        assert settlements("dropped") == dropped + 1
        assert await admitted(limiter, 10, ASK) == 1
    finally:
        mend(server)


async def test_a_cancelled_request_leaves_its_reply_to_nobody_else(
    server: RedisServer, open_limiter: Callable[[Limits], RateLimiter]
) -> None:
    limiter, route = open_limiter(limits(1000)), find_route(GAMES, GAMES)
    assert route
    for _ in range(50):
        asking = [asyncio.create_task(limiter.admit(route, f"user:{number}", "free")) for number in range(5)]
        await asyncio.sleep(0)
        asking[1].cancel()
        await asyncio.sleep(0)
        asking[3].cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    left = {}
    for number in (0, 2, 4):
        headers = dict((await limiter.admit(route, f"user:{number}", "free")).headers())
        left[number] = int(headers[b"ratelimit-remaining"])
    assert left == {0: 949, 2: 949, 4: 949}


async def test_without_redis_every_route_does_what_the_table_says_and_nothing_fails(
    open_gateway: OpenGateway,
    tokens: Tokens,
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with redis_server() as own:
        gateway = await open_gateway(limits=limits(3), state_redis_url=SecretStr(own.url))
        player, before = tokens.headers(), fallbacks()
        assert (await gateway.get(GAMES, headers=player)).status_code == 200
        assert fallbacks() == before
    codes = [(await gateway.get(GAMES, headers=player)).status_code for _ in range(5)]
    assert codes == [200, 200, 429, 429, 429]
    refused = await gateway.get(GAMES, headers=player)
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert fallbacks() == before + 6
    # Who mends it is let through, and told of no limit.
    codes = [(await gateway.get(ADMIN)).status_code for _ in range(5)]
    assert codes == [200] * 5
    assert "ratelimit-limit" not in (await gateway.get(ADMIN)).headers
    assert (await gateway.get("/healthz")).status_code == 200
    assert capsys.readouterr().out.count("limits are counted per process") == 1


@pytest.mark.faults
@pytest.mark.timeout(180)
async def test_redis_stopped_for_60_seconds_fails_nobody_and_admits_no_more_than_the_limit_per_process(
    tokens: Tokens, auth_url: str, service_url: str
) -> None:
    """Three players ask as fast as they can, before, during and after the outage, of two processes."""
    requests, window, seconds = 20, 10, 60.0
    with redis_server() as server:
        told = {"state_redis_url": server.url, "limits": json.dumps(limits(requests, window).model_dump(mode="json"))}
        services = {"auth_url": auth_url, "coach_url": service_url, "admin_url": service_url}
        async with gateway_process(**told, **services) as first, gateway_process(**told, **services) as second:
            players = [Recorder(tokens.headers()) for _ in range(3)]
            ending = asyncio.Event()
            running = [asyncio.create_task(player.play([first.url, second.url], ending)) for player in players]
            await asyncio.sleep(3)
            server.stop()
            stopped = time.monotonic()
            while time.monotonic() - stopped < seconds:
                async with httpx.AsyncClient() as client:
                    for url in (first.url, second.url):
                        assert (await client.get(f"{url}/healthz")).status_code == 200
                await asyncio.sleep(1)
            server.start()
            back_at = time.monotonic()
            await asyncio.sleep(3 * window)
            ending.set()
            await asyncio.gather(*running)
    statuses = {status for player in players for status, *_ in player.replies}
    assert statuses == {200, 429}
    for player in players:
        for url in (first.url, second.url):
            assert most_in_a_window(player.admitted(url), window) <= requests
        # Together they count as one again, once what they admitted alone has left the window.
        assert most_in_a_window([at for at in player.admitted() if at[0] > back_at + window + 3], window) <= requests
    total = sum(len(player.replies) for player in players)
    slowest = max(done - began for player in players for _, _, began, done in player.replies)
    print(f"60 s without Redis: {total} requests, slowest {slowest:.3f} s, statuses {sorted(statuses)}")


class Recorder:
    """A player who asks several gateways in turn, and notes when each reply began and came."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self.replies: list[tuple[int, str, float, float]] = []

    async def play(self, urls: list[str], ending: asyncio.Event) -> None:
        async with httpx.AsyncClient(headers=self._headers, timeout=10) as client:
            while not ending.is_set():
                for url in urls:
                    began = time.monotonic()
                    status = (await client.get(url + GAMES)).status_code
                    self.replies.append((status, url, began, time.monotonic()))
                await asyncio.sleep(0.03)

    def admitted(self, url: str | None = None) -> list[tuple[float, float]]:
        """Between which moments each admission was decided."""
        return [(began, done) for status, at, began, done in self.replies if status == 200 and url in (None, at)]


def most_in_a_window(admissions: list[tuple[float, float]], seconds: float) -> int:
    """The most that were surely admitted within one window: the first's earliest and the last's latest moment count."""
    most = 0
    for start, (first, _) in enumerate(admissions):
        most = max(most, sum(done < first + seconds for _, done in admissions[start:]))
    return most
