"""Daily quotas of questions: what is taken, what is given back, and to which day."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from itertools import chain, pairwise
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from starlette.types import Receive, Scope, Send

from common.db import uuid7
from common.redis import redis_client
from common.testing import Tokens
from devstack.launch import free_port
from gateway.counts import QUESTION
from gateway.quotas import Bill, Calendar
from gateway.settings import Limit, Limits

from .conftest import OpenGateway, ScriptedService, connected, head, piece, reply

ASK = "/api/coach/ask"
ROOMY: dict[str, Limit] = {"free": Limit(10_000, 60), "premium": Limit(10_000, 60)}
EVENTS = {"content-type": "text/event-stream"}
DONE = b'event: meta\ndata: {}\n\nevent: token\ndata: {"text": "x"}\n\nevent: done\ndata: {}\nid: 3\n\n'
ERROR = DONE.replace(b"done", b"error")


def quota(free: int, premium: int = 2000) -> Limits:
    return Limits(ask=ROOMY, questions_per_day={"free": free, "premium": premium})


@pytest.fixture
async def state_redis(redis_urls: dict[str, str], clean_redis: None) -> AsyncIterator[Redis]:
    async with redis_client(redis_urls["state"]) as client:
        yield client


async def used(redis: Redis) -> int:
    """Tenths of a question counted today, of the only player."""
    keys = await redis.keys("gateway:limit:questions_per_day:*")
    return int(await redis.get(keys[0])) if keys else 0


async def settled(redis: Redis, tenths: int) -> bool:
    """Whether so much is counted in the end; settling follows the reply."""
    for _ in range(200):
        if await used(redis) == tenths:
            return True
        await asyncio.sleep(0.01)
    return False


def costing(cost: str | None, status: int = 200) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """A reply that names its cost."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, status, {}, {"Dugout-Question-Cost": cost} if cost else None)

    return answer


def streaming(*pieces: bytes, whole: bool = True) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """A stream of these pieces; one that is not whole is cut after them."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"dugout-question-cost", b"0.1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for text in pieces:
            await send(piece(text))
        if whole:
            await send(piece(b"", more=False))

    return answer


@pytest.mark.parametrize(
    ("status", "cost", "tenths"),
    [
        (200, "1", 10),
        (200, None, 10),
        (200, "much", 10),
        (200, "0.1", 1),
        (200, "0", 0),
        (404, None, 0),
        (500, "1", 0),
        (503, None, 0),
    ],
)
async def test_a_question_costs_what_coach_says_and_a_failed_one_nothing(
    open_gateway: OpenGateway,
    service: ScriptedService,
    signed_in: dict[str, str],
    state_redis: Redis,
    status: int,
    cost: str | None,
    tenths: int,
) -> None:
    service.answer = costing(cost, status)
    response = await (await open_gateway(limits=quota(5))).post(ASK, headers=signed_in)
    assert response.status_code == status
    assert await settled(state_redis, tenths)
    assert "dugout-question-cost" not in response.headers


@pytest.mark.parametrize(
    ("answer", "tenths"),
    [
        (streaming(DONE), 1),
        (streaming(*(DONE[at : at + 1] for at in range(len(DONE)))), 1),
        (streaming(ERROR), 0),
        (streaming(DONE[:40]), 0),
        (streaming(DONE[:40], whole=False), 0),
    ],
    ids=["done", "done in single bytes", "error", "neither", "cut"],
)
async def test_a_stream_costs_nothing_unless_it_is_done(
    open_gateway: OpenGateway,
    service: ScriptedService,
    signed_in: dict[str, str],
    state_redis: Redis,
    answer: Callable[[Scope, Receive, Send], Awaitable[None]],
    tenths: int,
) -> None:
    service.answer = answer
    try:
        await (await open_gateway(limits=quota(5))).post(ASK, headers=signed_in)
    except httpx.RemoteProtocolError:
        assert tenths == 0
    assert await settled(state_redis, tenths)


async def test_who_leaves_pays(
    open_gateway: OpenGateway, service: ScriptedService, signed_in: dict[str, str], state_redis: Redis
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def think(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    service.answer = think
    asking = asyncio.create_task((await open_gateway(limits=quota(5))).post(ASK, headers=signed_in))
    await asyncio.wait_for(asked.wait(), 5)
    asking.cancel()
    await asyncio.wait_for(left.wait(), 5)
    assert await settled(state_redis, QUESTION)


async def test_who_leaves_before_the_question_is_told_pays_nothing(
    open_gateway: OpenGateway, service: ScriptedService, signed_in: dict[str, str], state_redis: Redis
) -> None:
    gateway = await open_gateway(limits=quota(5))
    async with connected(gateway) as (_, writer):
        writer.write(head("POST", ASK, {**signed_in, "content-length": "9"}))
        assert await settled(state_redis, QUESTION)
    assert await settled(state_redis, 0)
    assert service.requests == []


async def test_to_sign_out_before_the_end_of_an_answer_spares_nothing(
    open_gateway: OpenGateway,
    service: ScriptedService,
    tokens: Tokens,
    state_redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = tokens.player()

    async def sign_out(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(DONE.partition(b"event: done")[0], whole=False)(scope, receive, send)
        service.revoked.add(token)
        while (await receive())["type"] != "http.disconnect":
            pass

    monkeypatch.setattr("common.revocations.POLL_SECONDS", 0.02)
    service.answer = sign_out
    gateway = await open_gateway(limits=quota(5))
    response = await gateway.post(ASK, headers={"Authorization": f"Bearer {token}"})
    assert "token_revoked" in response.text
    assert await settled(state_redis, 1)


async def test_a_service_that_is_away_costs_nothing(
    open_gateway: OpenGateway, signed_in: dict[str, str], state_redis: Redis
) -> None:
    gateway = await open_gateway(limits=quota(5), coach_url=f"http://127.0.0.1:{free_port()}")
    response = await gateway.post(ASK, headers=signed_in)
    assert (response.status_code, response.headers["ratelimit-remaining"]) == (503, "4")
    assert await settled(state_redis, 0)


@pytest.mark.usefixtures("state_redis")
async def test_a_spent_quota_is_a_429_that_says_until_when(
    open_gateway: OpenGateway, signed_in: dict[str, str]
) -> None:
    gateway = await open_gateway(limits=quota(2), time_zone=ZoneInfo("Asia/Seoul"))
    last = [await gateway.post(ASK, headers=signed_in) for _ in range(2)][-1]
    assert (last.headers["ratelimit-limit"], last.headers["ratelimit-remaining"]) == ("2", "0")
    policies = '10000;w=60;comment="ask", 2;w=86400;comment="questions_per_day"'
    assert last.headers["ratelimit-policy"] == policies

    refused = await gateway.post(ASK, headers=signed_in)
    now = datetime.now(ZoneInfo("Asia/Seoul"))
    reset = 86_400 - (now.hour * 60 + now.minute) * 60 - now.second
    assert refused.status_code == 429
    assert refused.headers["ratelimit-policy"] == policies
    assert refused.headers["ratelimit-remaining"] == "0"
    assert abs(int(refused.headers["retry-after"]) - reset) <= 2
    assert refused.headers["ratelimit-reset"] == refused.headers["retry-after"]
    problem = refused.json()
    assert (problem["code"], problem["title"]) == ("rate_limited", "Too many requests")
    words = "The limit 'questions_per_day' allows 2 questions a day; 0 remain. It resets at "
    assert problem["detail"].startswith(words)
    assert "T00:00+09:00, in " in problem["detail"]
    korean = (await gateway.post(ASK, headers={**signed_in, "Accept-Language": "ko"})).json()
    assert korean["detail"].startswith("'questions_per_day' 한도는 하루 질문 2개이며 0개 남았습니다. ")
    assert korean["detail"].endswith("초 후)에 초기화됩니다")


async def test_if_either_limit_refuses_neither_counts(
    open_gateway: OpenGateway, tokens: Tokens, state_redis: Redis
) -> None:
    tight = Limits(ask={"free": Limit(3, 60), "premium": Limit(9, 60)}, questions_per_day={"free": 2, "premium": 9})
    gateway, player = await open_gateway(limits=tight), uuid7()
    free, premium = tokens.headers(user_id=player), tokens.headers(user_id=player, plan="premium")
    codes = [(await gateway.post(ASK, headers=free)).status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    [window] = await state_redis.keys("gateway:limit:ask:*")
    assert (await state_redis.llen(window), await used(state_redis)) == (2, 20)
    # A better plan acts at once, on what was used before; then the window of the old plan is full, and takes nothing.
    assert (await gateway.post(ASK, headers=premium)).status_code == 200
    assert (await gateway.post(ASK, headers=free)).status_code == 429
    assert (await state_redis.llen(window), await used(state_redis)) == (3, 30)


async def test_keys_name_nobody_and_end_with_their_day(
    open_gateway: OpenGateway, tokens: Tokens, state_redis: Redis
) -> None:
    player = uuid7()
    await (await open_gateway(limits=quota(5))).post(ASK, headers=tokens.headers(user_id=player))
    keys = sorted(key.decode() for key in await state_redis.keys("gateway:limit:*"))
    assert [key.rpartition(":")[0].rstrip("0123456789") for key in keys] == [
        "gateway:limit:ask",
        "gateway:limit:questions_per_day:",
    ]
    assert not any(str(player) in key or player.hex in key for key in keys)
    assert 0 < await state_redis.ttl(keys[0]) <= 60
    assert 3600 < await state_redis.ttl(keys[1]) <= 86_400 + 3600


async def test_a_question_is_given_back_to_the_day_it_was_asked(
    open_gateway: OpenGateway,
    service: ScriptedService,
    signed_in: dict[str, str],
    state_redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answering = asyncio.Event(), asyncio.Event()

    async def think(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await answering.wait()
        await reply(send, 200, {}, {"Dugout-Question-Cost": "0.1"})

    gateway = await open_gateway(limits=quota(5))
    service.answer = costing("1")
    await gateway.post(ASK, headers=signed_in)
    service.answer = think
    asking = asyncio.create_task(gateway.post(ASK, headers=signed_in))
    await asyncio.wait_for(asked.wait(), 5)
    tomorrow = time.time() + 86_400
    monkeypatch.setattr("gateway.quotas.time", SimpleNamespace(time=lambda: tomorrow))
    answering.set()
    await asking
    assert await settled(state_redis, 11)
    assert len(await state_redis.keys("gateway:limit:questions_per_day:*")) == 1


async def test_500_questions_at_once_settle_exactly(
    open_gateway: OpenGateway, service: ScriptedService, signed_in: dict[str, str], state_redis: Redis
) -> None:
    outcomes = [("1", 200, 10), ("0.1", 200, 1), ("0", 200, 0), (None, 503, 0)]
    costs: list[int] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        cost, status, tenths = outcomes[len(costs) % len(outcomes)]
        costs.append(tenths)
        await costing(cost, status)(scope, receive, send)

    service.answer = answer
    gateway = await open_gateway(limits=quota(100))

    async def ask_five() -> list[httpx.Response]:  # httpx's pool grows slow when hundreds wait for it
        return [await gateway.post(ASK, headers=signed_in, timeout=30) for _ in range(5)]

    replies = chain(*await asyncio.gather(*(ask_five() for _ in range(100))))
    admitted = [response for response in replies if response.status_code != 429]
    assert len(admitted) == len(costs) >= 100
    assert sum(costs) <= 100 * QUESTION
    assert await settled(state_redis, sum(costs))


def bill() -> tuple[Bill, list[int]]:
    given_back: list[int] = []
    return Bill(given_back.append), given_back


def test_a_bill_is_settled_once() -> None:
    question, given_back = bill()
    question.replied(200, [(b"Dugout-Question-Cost", b"0.1")])
    question.ended()
    question.settle()
    question.settle()
    assert given_back == [9]


@given(st.lists(st.integers(0, len(DONE)), max_size=8), st.booleans())
def test_done_is_found_wherever_the_stream_is_broken_into_pieces(breaks: list[int], is_done: bool) -> None:
    text = DONE if is_done else ERROR.replace(b"x", b"event: done\\\\n")
    question, given_back = bill()
    question.replied(200, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"dugout-question-cost", b"0.1")])
    places = [0, *sorted(breaks), len(text)]
    for start, end in pairwise(places):
        question.passed(text[start:end])
    question.ended()
    question.settle()
    assert given_back == [9 if is_done else 10]


@pytest.mark.parametrize(
    ("zone", "now", "name", "hours"),
    [
        ("Asia/Seoul", "2026-11-23T14:59:59+00:00", "20261123", 24),
        ("Asia/Seoul", "2026-11-23T15:00:00+00:00", "20261124", 24),
        ("Europe/Berlin", "2026-03-29T12:00:00+00:00", "20260329", 23),
        ("Europe/Berlin", "2026-10-25T00:30:00+00:00", "20261025", 25),
        ("Europe/Berlin", "2026-10-25T01:30:00+00:00", "20261025", 25),
        ("America/Santiago", "2026-09-06T12:00:00+00:00", "20260906", 23),
    ],
)
def test_days_are_those_of_the_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, now: str, name: str, hours: int
) -> None:
    seconds = datetime.fromisoformat(now).timestamp()
    monkeypatch.setattr("gateway.quotas.time", SimpleNamespace(time=lambda: seconds))
    calendar = Calendar(ZoneInfo(zone))
    today = calendar.today()
    assert (today.name, today.ends_at - today.begins_at) == (name, hours * 3600)
    assert today.begins_at <= seconds < today.ends_at
    assert (today.midnight.timestamp(), today.midnight.hour) == (today.ends_at, 0)


def test_a_day_ends_and_a_clock_may_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(time=lambda: 1_800_000_000.0)
    monkeypatch.setattr("gateway.quotas.time", clock)
    calendar = Calendar(ZoneInfo("Asia/Seoul"))
    first = calendar.today()
    clock.time = lambda: first.ends_at
    assert calendar.today().begins_at == first.ends_at
    clock.time = lambda: first.ends_at - 1
    assert calendar.today() == first
