"""Tests of `gateway.rate_limit`: exactly so many, whoever counts, and words for those refused."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from redis.asyncio import Redis

from common.db import uuid7
from common.redis import redis_client
from common.testing import Tokens
from devstack.redis import run_redis
from gateway.rate_limit import RateLimiter
from gateway.settings import Limit, Limits

from .conftest import OpenGateway

TIGHT = Limits(
    ask={"free": Limit(2, 60), "premium": Limit(4, 60)},
    player={"free": Limit(3, 60), "premium": Limit(3, 60)},
    sign_in=Limit(2, 60),
)
GAMES = "/api/coach/games"
LOGIN = "/auth/dev/login"


@pytest.fixture
async def state_redis(redis_urls: dict[str, str]) -> AsyncIterator[Redis]:
    client = redis_client(redis_urls["state"])
    yield client
    await client.aclose()


async def statuses(
    client: httpx.AsyncClient, path: str, count: int, headers: dict[str, str] | None = None
) -> list[int]:
    """Of `count` requests, one after the other."""
    return [(await client.get(path, headers=headers)).status_code for _ in range(count)]


@pytest.mark.usefixtures("clean_redis")
async def test_exactly_the_limit_is_admitted_by_many_gateways_at_once(redis_urls: dict[str, str]) -> None:
    clients = [redis_client(redis_urls["state"], connections=10) for _ in range(4)]
    limiters = [RateLimiter(client) for client in clients]
    await asyncio.gather(*(limiter.hit("ask", "warm", Limit(10, 60)) for limiter in limiters))
    hits = (limiters[number % 4].hit("ask", "somebody", Limit(30, 60)) for number in range(300))
    admitted = [decision for decision in await asyncio.gather(*hits) if decision.admitted]
    assert sorted(decision.remaining for decision in admitted) == list(range(30))
    for client in clients:
        await client.aclose()


@pytest.mark.usefixtures("clean_redis")
async def test_no_window_however_laid_holds_more_than_the_limit(state_redis: Redis) -> None:
    limiter, limit = RateLimiter(state_redis), Limit(5, 1)
    admitted: list[float] = []
    started = time.monotonic()
    while time.monotonic() - started < 2.5:
        before = time.monotonic()
        if (await limiter.hit("ask", "eager", limit)).admitted:
            admitted.append(before)
    # `before` is at most a round trip early, so six admissions in a row span a whole window, less that.
    spans = [later - earlier for earlier, later in zip(admitted, admitted[limit.requests :], strict=False)]
    assert len(admitted) >= 2 * limit.requests
    assert min(spans) > 0.99


@pytest.mark.usefixtures("clean_redis")
async def test_every_key_ends_with_its_window(state_redis: Redis) -> None:
    await RateLimiter(state_redis).hit("ask", "somebody", Limit(5, 60))
    [key] = await state_redis.keys()
    assert key == b"gateway:limit:ask:somebody"
    assert 59_000 < await state_redis.pttl(key) <= 60_000


@pytest.mark.usefixtures("clean_redis")
async def test_a_refusal_says_which_limit_what_remains_and_when(
    open_gateway: OpenGateway, signed_in: dict[str, str]
) -> None:
    gateway = await open_gateway(limits=TIGHT)
    assert await statuses(gateway, "/api/coach/ask", 2, signed_in) == [200, 200]
    response = await gateway.get("/api/coach/ask", headers=signed_in)
    assert response.status_code == 429
    reset = int(response.headers["ratelimit-reset"])
    assert 55 < reset <= 60
    assert response.headers["retry-after"] == str(reset)
    assert (response.headers["ratelimit-limit"], response.headers["ratelimit-remaining"]) == ("2", "0")
    assert response.headers["ratelimit-policy"] == '2;w=60;comment="ask"'
    assert response.json()["code"] == "rate_limited"
    assert response.json()["detail"].startswith("The limit 'ask' allows 2 requests in 60 s; 0 remain.")
    korean = await gateway.get("/api/coach/ask", headers={**signed_in, "Accept-Language": "ko"})
    assert "'ask' 한도는 60초에 2회이며 0회 남았습니다" in korean.json()["detail"]


@pytest.mark.usefixtures("clean_redis")
async def test_replies_within_the_limit_say_what_remains(open_gateway: OpenGateway, signed_in: dict[str, str]) -> None:
    response = await (await open_gateway(limits=TIGHT)).get(GAMES, headers=signed_in)
    assert (response.headers["ratelimit-limit"], response.headers["ratelimit-remaining"]) == ("3", "2")


@pytest.mark.usefixtures("clean_redis")
async def test_limits_are_per_player_per_group_and_by_plan(open_gateway: OpenGateway, tokens: Tokens) -> None:
    gateway, player = await open_gateway(limits=TIGHT), uuid7()
    free, premium = tokens.headers(user_id=player), tokens.headers(user_id=player, plan="premium")
    assert await statuses(gateway, "/api/coach/ask", 3, free) == [200, 200, 429]
    assert await statuses(gateway, GAMES, 4, free) == [200, 200, 200, 429]
    assert await statuses(gateway, "/api/coach/ask", 1, tokens.headers()) == [200]
    # The plan acts at once, on what was used before.
    assert await statuses(gateway, "/api/coach/ask", 3, premium) == [200, 200, 429]


@pytest.mark.usefixtures("clean_redis")
async def test_sign_in_is_limited_by_address_and_no_header_helps(open_gateway: OpenGateway) -> None:
    gateway = await open_gateway(limits=TIGHT)
    codes = [
        (await gateway.post(LOGIN, headers={"X-Forwarded-For": f"203.0.113.{number}"})).status_code
        for number in range(3)
    ]
    assert codes == [200, 200, 429]


@pytest.mark.usefixtures("clean_redis")
async def test_behind_a_trusted_proxy_the_address_before_it_counts(open_gateway: OpenGateway) -> None:
    gateway = await open_gateway(limits=TIGHT, trusted_proxies=("127.0.0.0/8", "10.0.0.0/8"))

    async def sign_in(forwarded: str) -> int:
        return (await gateway.post(LOGIN, headers={"X-Forwarded-For": forwarded})).status_code

    # What stands before the last address that is no proxy of ours was written by the client.
    assert [await sign_in(f"1.2.3.{n}, 203.0.113.7, 10.1.1.1") for n in range(3)] == [200, 200, 429]
    assert await sign_in("203.0.113.8") == 200
    # One subscriber's IPv6 addresses count as one.
    assert [await sign_in(f"2001:db8:1:2::{n}") for n in range(3)] == [200, 200, 429]


def fallbacks() -> float:
    return REGISTRY.get_sample_value("gateway_rate_limit_fallbacks_total") or 0.0


async def test_without_redis_the_process_counts_by_itself_and_fails_nobody(
    open_gateway: OpenGateway,
    tmp_path_factory: pytest.TempPathFactory,
    tokens: Tokens,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = fallbacks()
    with run_redis(tmp_path_factory.mktemp("outage"), kind="state", throwaway=True) as redis:
        gateway = await open_gateway(limits=TIGHT, state_redis_url=SecretStr(redis.url))
        assert await statuses(gateway, GAMES, 1, tokens.headers()) == [200]
        assert fallbacks() == before
    player = tokens.headers()
    assert await statuses(gateway, GAMES, 5, player) == [200, 200, 200, 429, 429]
    refused = await gateway.get(GAMES, headers=player)
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert fallbacks() == before + 6
    assert (await gateway.get("/healthz")).status_code == 200
    assert capsys.readouterr().out.count("limits are counted per process") == 1


@pytest.mark.usefixtures("clean_redis")
@pytest.mark.parametrize(("outage_seconds", "counted_by_redis"), [(60, 0), (0, 1)])
async def test_after_a_failure_redis_is_left_alone_for_a_while(
    state_redis: Redis, monkeypatch: pytest.MonkeyPatch, outage_seconds: int, counted_by_redis: int
) -> None:
    monkeypatch.setattr("gateway.rate_limit.OUTAGE_SECONDS", outage_seconds)
    limiter, key = RateLimiter(state_redis), "gateway:limit:ask:somebody"
    await state_redis.set(key, "no list, so the script fails")
    assert (await limiter.hit("ask", "somebody", Limit(5, 60))).admitted
    await state_redis.flushall()
    assert (await limiter.hit("ask", "somebody", Limit(5, 60))).admitted
    assert await state_redis.llen(key) == counted_by_redis
