"""Tests of `gateway.rate_limit`: exactly so many, whoever counts, and words for those refused."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from redis.asyncio import Redis

from common.db import uuid7
from common.errors import TooManyRequestsError
from common.redis import redis_client
from common.testing import Tokens
from gateway.rate_limit import RateLimiter
from gateway.routes import Route, find_route
from gateway.settings import Limit, Limits, Settings

from .conftest import OpenGateway, ScriptedService

TIGHT = Limits(
    ask={"free": Limit(2, 60), "premium": Limit(4, 60)},
    player={"free": Limit(3, 60), "premium": Limit(3, 60)},
    sign_in=Limit(2, 60),
    ops=Limit(2, 60),
    failed_tokens=Limit(3, 60),
)
ASK = "/api/coach/ask"
GAMES = "/api/coach/games"
LOGIN = "/auth/google/login"

OpenLimiter = Callable[[Limits], Awaitable[RateLimiter]]


@pytest.fixture
async def state_redis(redis_urls: dict[str, str], clean_redis: None) -> AsyncIterator[Redis]:
    async with redis_client(redis_urls["state"]) as client:
        yield client


@pytest.fixture
async def open_limiter(redis_urls: dict[str, str], clean_redis: None) -> AsyncIterator[OpenLimiter]:
    """Limiters with connections of their own, as in processes of their own."""
    opened: list[tuple[RateLimiter, Redis]] = []

    async def start(limits: Limits) -> RateLimiter:
        redis = redis_client(redis_urls["state"])
        url, secret = SecretStr(redis_urls["state"]), SecretStr("gateway-secret-of-the-tests")
        settings = Settings(env="development", state_redis_url=url, client_secret=secret, limits=limits)
        opened.append((RateLimiter(settings, redis), redis))
        return opened[-1][0]

    yield start
    for limiter, redis in opened:
        await limiter.aclose()
        await redis.aclose()


def route(path: str = GAMES) -> Route:
    found = find_route(path, path)
    assert found
    return found


def player_limit(requests: int, seconds: int) -> Limits:
    return Limits(player={"free": Limit(requests, seconds), "premium": Limit(requests, seconds)})


async def remaining(limiter: RateLimiter, subject: str = "user:somebody") -> int | None:
    """What a request leaves, or None if it is refused."""
    try:
        admission = await limiter.admit(route(), subject, "free")
    except TooManyRequestsError:
        return None
    return int(dict(admission.headers())[b"ratelimit-remaining"])


async def statuses(
    client: httpx.AsyncClient, path: str, count: int, headers: dict[str, str] | None = None
) -> list[int]:
    """Of `count` requests, one after the other."""
    return [(await client.get(path, headers=headers)).status_code for _ in range(count)]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_exactly_the_limit_is_admitted_by_many_gateways_at_once(open_limiter: OpenLimiter) -> None:
    limiters = [await open_limiter(player_limit(30, 60)) for _ in range(4)]
    left = await asyncio.gather(*(remaining(limiters[number % 4]) for number in range(1000)))
    assert sorted(number for number in left if number is not None) == list(range(30))


async def test_no_window_however_laid_holds_more_than_the_limit(open_limiter: OpenLimiter) -> None:
    limiters = itertools.cycle([await open_limiter(player_limit(5, 1)) for _ in range(2)])
    admitted: list[float] = []
    started = time.monotonic()
    while time.monotonic() - started < 2.5:
        before = time.monotonic()
        if await remaining(next(limiters)) is not None:
            admitted.append(before)
    # `before` is at most a round trip early, so six admissions in a row span a whole window, less that.
    spans = [later - earlier for earlier, later in zip(admitted, admitted[5:], strict=False)]
    assert len(admitted) >= 10
    assert min(spans) > 0.99


async def test_every_key_ends_with_its_window_and_names_nobody(open_limiter: OpenLimiter, state_redis: Redis) -> None:
    await remaining(await open_limiter(player_limit(5, 60)))
    [key] = await state_redis.keys()
    assert key.startswith(b"gateway:limit:player:")
    assert b"somebody" not in key
    assert 59_000 < await state_redis.pttl(key) <= 60_000


@pytest.mark.usefixtures("clean_redis")
async def test_a_refusal_says_which_limit_what_remains_and_when(
    open_gateway: OpenGateway, signed_in: dict[str, str]
) -> None:
    gateway = await open_gateway(limits=TIGHT)
    assert await statuses(gateway, GAMES, 3, signed_in) == [200, 200, 200]
    response = await gateway.get(GAMES, headers=signed_in)
    assert response.status_code == 429
    reset = int(response.headers["ratelimit-reset"])
    assert 55 < reset <= 60
    assert response.headers["retry-after"] == str(reset)
    assert (response.headers["ratelimit-limit"], response.headers["ratelimit-remaining"]) == ("3", "0")
    assert response.headers["ratelimit-policy"] == '3;w=60;comment="player"'
    assert response.json()["code"] == "rate_limited"
    assert response.json()["detail"].startswith("The limit 'player' allows 3 requests in 60 s; 0 remain.")
    korean = await gateway.get(GAMES, headers={**signed_in, "Accept-Language": "ko"})
    assert "'player' 한도는 60초에 3회이며 0회 남았습니다" in korean.json()["detail"]


@pytest.mark.usefixtures("clean_redis")
async def test_replies_within_the_limit_say_what_remains(open_gateway: OpenGateway, signed_in: dict[str, str]) -> None:
    response = await (await open_gateway(limits=TIGHT)).get(GAMES, headers=signed_in)
    assert (response.headers["ratelimit-limit"], response.headers["ratelimit-remaining"]) == ("3", "2")


@pytest.mark.usefixtures("clean_redis")
async def test_limits_are_per_player_per_group_and_by_plan(open_gateway: OpenGateway, tokens: Tokens) -> None:
    gateway, player = await open_gateway(limits=TIGHT), uuid7()
    free, premium = tokens.headers(user_id=player), tokens.headers(user_id=player, plan="premium")
    assert await statuses(gateway, ASK, 3, free) == [200, 200, 429]
    assert await statuses(gateway, GAMES, 4, free) == [200, 200, 200, 429]
    assert await statuses(gateway, ASK, 1, tokens.headers()) == [200]
    # The plan acts at once, on what was used before.
    assert await statuses(gateway, ASK, 3, premium) == [200, 200, 429]


@pytest.mark.usefixtures("clean_redis")
async def test_after_a_change_to_a_smaller_plan_the_wait_told_is_long_enough(open_limiter: OpenLimiter) -> None:
    limits = Limits(player={"free": Limit(1, 2), "premium": Limit(3, 2)})
    limiter = await open_limiter(limits)
    for _ in range(3):
        await limiter.admit(route(), "user:somebody", "premium")
        await asyncio.sleep(0.4)
    with pytest.raises(TooManyRequestsError) as refused:
        await limiter.admit(route(), "user:somebody", "free")
    # The oldest request leaves in less than a second, but two of three must.
    assert refused.value.headers["Retry-After"] == "2"


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
    # Others sign in, whatever comes from there.
    assert await sign_in("203.0.113.8") == 200
    # One subscriber's IPv6 addresses count as one.
    assert [await sign_in(f"2001:db8:1:2::{n}") for n in range(3)] == [200, 200, 429]
    # IPv4 addresses stay what they are when a proxy writes them as IPv6.
    assert [await sign_in(f"::ffff:203.0.113.{n}, ::ffff:10.1.1.1") for n in (7, 21, 22, 23)] == [429, 200, 200, 200]


@pytest.mark.usefixtures("clean_redis")
async def test_a_limit_on_trial_is_counted_and_refuses_nothing(
    open_gateway: OpenGateway, signed_in: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    shadow = TIGHT.model_copy(update={"shadow": frozenset({"ask"})})
    before = sample("gateway_rate_limit_decisions_total", limit="ask", outcome="shadow_refused")
    gateway = await open_gateway(limits=shadow)
    replies = [await gateway.get(ASK, headers=signed_in) for _ in range(4)]
    assert [response.status_code for response in replies] == [200] * 4
    # Callers are told of the limits that bind them, here the quota alone.
    assert replies[-1].headers["ratelimit-policy"] == '200;w=86400;comment="questions_per_day"'
    assert sample("gateway_rate_limit_decisions_total", limit="ask", outcome="shadow_refused") == before + 2
    assert capsys.readouterr().out.count("a shadow limit would have refused") == 2
    assert await statuses(gateway, GAMES, 4, signed_in) == [200, 200, 200, 429]


@pytest.mark.usefixtures("clean_redis")
async def test_a_flood_of_forged_tokens_costs_no_more_signature_checks_but_nobody_who_is_in(
    open_gateway: OpenGateway, tokens: Tokens
) -> None:
    gateway = await open_gateway(limits=TIGHT, trusted_proxies=("127.0.0.0/8",))
    here, elsewhere = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
    known, forger = tokens.headers(), Tokens()
    assert await statuses(gateway, GAMES, 1, known | here) == [200]
    codes = [(await statuses(gateway, GAMES, 1, forger.headers() | here))[0] for _ in range(50)]
    assert codes == [401] * 3 + [429] * 47
    # No signature is looked at any more: a genuine one does not help.
    assert await statuses(gateway, GAMES, 1, tokens.headers() | here) == [429]
    refused = await gateway.get(GAMES, headers=forger.headers() | here)
    assert refused.headers["ratelimit-policy"] == '3;w=60;comment="failed_tokens"'
    assert 55 < int(refused.headers["retry-after"]) <= 60
    # Players whose tokens were seen before play on there, and everybody does elsewhere.
    assert await statuses(gateway, GAMES, 1, known | here) == [200]
    assert await statuses(gateway, GAMES, 1, tokens.headers() | elsewhere) == [200]


@pytest.mark.usefixtures("clean_redis")
async def test_optional_sign_in_is_limited_by_address_before_its_token_is_looked_at(
    open_gateway: OpenGateway, service: ScriptedService
) -> None:
    gateway = await open_gateway(limits=TIGHT)
    assert await statuses(gateway, "/admin/stats", 3, Tokens().headers()) == [401, 401, 429]
    assert service.requests == []
