"""Model calls and figures for our other services."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from coach.app import build
from coach.models import Answer, Completion
from common.db import Sessions, uuid7
from common.testing import Tokens, listening
from standins.gate import Gate
from standins.openai import OpenAIStandin

from .conftest import MakeSettings, SetGame


@pytest.fixture
def worker(tokens: Tokens) -> dict[str, str]:
    return tokens.service_headers("worker", "coach", "coach:complete")


def completion(game: str, **changes: Any) -> dict[str, Any]:
    body = {"idempotency_key": f"k-{uuid7()}", "game": game, "locale": "ko"}
    return body | {"system": "Summarise.", "prompt": "A long talk.", "max_tokens": 120} | changes


async def complete(client: httpx.AsyncClient, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return await client.post("/internal/completions", json=body, headers=headers)


async def test_a_completion_uses_the_games_model_with_the_callers_limit(
    client: httpx.AsyncClient, openai: OpenAIStandin, worker: dict[str, str], set_game: SetGame
) -> None:
    game = await set_game(model="gpt-4.1-mini", parameters={"temperature": 0.5, "max_completion_tokens": 9000})
    openai.say("요약.", usage={"prompt_tokens": 100, "completion_tokens": 10})
    reply = (await complete(client, worker, completion(game))).json()
    UUID(reply.pop("id"))
    assert reply == {
        "text": "요약.",
        "model": "gpt-4.1-mini",
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "cost_usd": "0.000056"},
    }
    body = openai.chat_calls[0].body
    assert (body["temperature"], body["max_completion_tokens"], "max_tokens" in body) == (0.5, 120, False)
    assert [message["content"] for message in body["messages"]] == ["Summarise.", "A long talk."]


async def test_a_completions_key_is_paid_once(
    client: httpx.AsyncClient, openai: OpenAIStandin, worker: dict[str, str], game: str
) -> None:
    body = completion(game)
    first, second = await complete(client, worker, body), await complete(client, worker, body)
    assert first.status_code == 200
    assert second.content == first.content
    assert len(openai.chat_calls) == 1
    other = await complete(client, worker, body | {"prompt": "Another talk."})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_two_completions_at_once_with_one_key_share_one_call(
    client: httpx.AsyncClient, openai: OpenAIStandin, worker: dict[str, str], game: str
) -> None:
    thinking, body = Gate(), completion(game)
    openai.say("Summary.", hold=thinking)
    both = [asyncio.create_task(complete(client, worker, body)) for _ in range(2)]
    await openai.until(len)
    thinking.open()
    first, second = await asyncio.gather(*both)
    assert first.json() == second.json()
    assert len(openai.chat_calls) == 1


async def test_a_completion_runs_to_its_end_although_the_caller_hangs_up(
    settings: MakeSettings, openai: OpenAIStandin, worker: dict[str, str], game: str
) -> None:
    thinking, body = Gate(), completion(game)
    openai.say("Summary.", hold=thinking)
    async with listening(build(settings())) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            leaving = asyncio.create_task(complete(client, worker, body))
            await openai.until(len)
            leaving.cancel()
        thinking.open()
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            again = await complete(client, worker, body)
    assert (again.status_code, again.json()["text"]) == (200, "Summary.")
    assert len(openai.chat_calls) == 1


async def test_a_completion_that_failed_may_be_tried_again(
    client: httpx.AsyncClient, openai: OpenAIStandin, worker: dict[str, str], game: str
) -> None:
    body = completion(game)
    openai.fail(401)
    failed = await complete(client, worker, body)
    assert (failed.status_code, failed.json()["code"]) == (503, "ai_unavailable")
    assert (await complete(client, worker, body)).status_code == 200


async def test_without_a_key_a_completion_is_503(keyless: httpx.AsyncClient, worker: dict[str, str], game: str) -> None:
    response = await complete(keyless, worker, completion(game))
    assert (response.status_code, response.json()["code"]) == (503, "model_not_configured")


async def test_internal_routes_refuse_players_and_services_without_the_scope(
    client: httpx.AsyncClient, tokens: Tokens, worker: dict[str, str], game: str
) -> None:
    for headers in (tokens.headers(role="admin"), tokens.service_headers("admin", "coach", "coach:read")):
        assert (await complete(client, headers, completion(game))).status_code == 403
    assert (await client.get("/internal/stats", headers=worker)).status_code == 403
    elsewhere = tokens.service_headers("worker", "rag", "coach:complete")
    assert (await complete(client, elsewhere, completion(game))).status_code == 401


# A month no other test writes to. In Seoul the second answer is of the next day.
DAY_1 = datetime(2021, 3, 1, 14, 59, tzinfo=UTC)
DAY_2 = datetime(2021, 3, 1, 15, 1, tzinfo=UTC)


def stored(game: str, created_at: datetime, **changes: Any) -> Answer:
    values: dict[str, Any] = {
        "user_id": uuid7(),
        "game": game,
        "locale": "ko",
        "patch": "1",
        "question": "?",
        "answer": "!",
        "citations": [],
        "is_cached": False,
        "cache": "miss",
        "degraded": False,
        "covered": True,
        "model": "gpt-4o-mini",
        "prompt_version": "v",
        "prompt_tokens": 0,
        "cached_prompt_tokens": 0,
        "completion_tokens": 0,
        "usage_estimated": False,
        "cost_usd": Decimal("0.01"),
        "saved_usd": Decimal(0),
        "latency_ms": 1000,
        "created_at": created_at,
    }
    return Answer(**(values | changes))


async def test_stats_add_up_questions_hits_money_and_time(
    client: httpx.AsyncClient, tokens: Tokens, sessions: Sessions, game: str
) -> None:
    player = uuid7()
    cached = {"is_cached": True, "cost_usd": Decimal(0), "saved_usd": Decimal("0.01"), "latency_ms": 10}
    async with sessions.begin() as session:
        session.add_all(
            [
                stored(game, DAY_1, user_id=player),
                stored(game, DAY_2, user_id=player, cache="exact", **cached),
                stored(game, DAY_2, cache="semantic", **cached),
                stored(game, DAY_2, covered=False, model=None, cost_usd=Decimal(0), locale="en"),
                stored(game, DAY_2, degraded=True, model="house-model", cost_usd=None),
                Completion(
                    client_id="worker",
                    game=game,
                    locale="ko",
                    text="",
                    model="gpt-4o",
                    prompt_tokens=1,
                    cached_prompt_tokens=0,
                    completion_tokens=1,
                    usage_estimated=False,
                    cost_usd=Decimal("0.5"),
                    created_at=DAY_2,
                ),
            ]
        )
    headers = tokens.service_headers("admin", "coach", "coach:read")
    period = {"from": "2021-03-01", "to": "2021-03-31"}
    stats = (await client.get("/internal/stats", params=period, headers=headers)).json()
    assert (stats["from"], stats["to"]) == ("2021-03-01", "2021-03-31")
    assert stats["totals"] | {"key": ""} == {
        "key": "",
        "questions": 5,
        "players": 4,
        "cost_usd": "0.51",
        "saved_usd": "0.02",
        "unpriced": 1,
        "hit_rate": {"exact": 0.2, "semantic": 0.2},
        "degraded": 1,
        "not_covered": 1,
        "latency_ms": {"p50": 1000.0, "p95": 1000.0},
    }
    assert [(point["key"], point["questions"]) for point in stats["series"]] == [("2021-03-01", 1), ("2021-03-02", 4)]
    by_model = (await client.get("/internal/stats", params=period | {"by": "model"}, headers=headers)).json()["series"]
    assert [(point["key"], point["questions"], point["cost_usd"]) for point in by_model] == [
        ("gpt-4o", 0, "0.5"),
        ("gpt-4o-mini", 3, "0.01"),
        ("house-model", 1, "0"),
        ("none", 1, "0"),
    ]


@pytest.mark.parametrize("period", [{"to": "9999-12-31"}, {"to": "0001-01-01"}, {"from": "0001-01-01"}])
async def test_stats_of_days_beyond_the_calendar_are_refused(
    client: httpx.AsyncClient, tokens: Tokens, period: dict[str, str]
) -> None:
    headers = tokens.service_headers("admin", "coach", "coach:read")
    refused = await client.get("/internal/stats", params=period, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


async def test_stats_of_an_empty_period_are_zeros(client: httpx.AsyncClient, tokens: Tokens) -> None:
    headers = tokens.service_headers("admin", "coach", "coach:read")
    period = {"from": "2020-01-01", "to": "2020-01-02", "by": "game"}
    stats = (await client.get("/internal/stats", params=period, headers=headers)).json()
    assert (stats["totals"]["questions"], stats["totals"]["cost_usd"], stats["series"]) == (0, "0", [])
    assert stats["totals"]["latency_ms"] == {"p50": None, "p95": None}


@pytest.mark.parametrize(
    "params", [{"by": "user_id"}, {"from": "2026-02-01", "to": "2026-01-01"}, {"from": "1999-01-01"}, {"from": "x"}]
)
async def test_stats_refuse_what_makes_no_period(
    client: httpx.AsyncClient, tokens: Tokens, params: dict[str, str]
) -> None:
    headers = tokens.service_headers("admin", "coach", "coach:read")
    assert (await client.get("/internal/stats", params=params, headers=headers)).status_code == 422
