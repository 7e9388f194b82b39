"""One question from its text to its stored answer, as JSON."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from coach.extractive import WRITER
from coach.models import Answer
from common.db import Sessions
from common.testing import Tokens
from standins.openai import OpenAIStandin

from .conftest import SetGame
from .rag_standin import REMEMBER, RagStandin

QUESTION = "What is good against archers?"
REMEMBERED = {
    "answer": "Cavalry [2].",
    "citations": [
        {
            "marker": 2,
            "document_id": "doc-cavalry",
            "title": "Cavalryman",
            "snippet": "…",
            "source": "wesnoth 1.16",
            "url": None,
            "start_ms": None,
        }
    ],
    "model": "gpt-4o-mini",
    "sources_as_of": "2026-09-30",
    "cost_usd": "0.000208",
}


async def ask(client: httpx.AsyncClient, player: dict[str, str], game: str, **body: Any) -> httpx.Response:
    return await client.post("/api/coach/ask", json={"game": game, "question": QUESTION} | body, headers=player)


async def test_ask_answers_with_citations_usage_and_cost(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say(
        "Use cavalry [2].",
        usage={"prompt_tokens": 812, "completion_tokens": 143, "prompt_tokens_details": {"cached_tokens": 12}},
    )
    response = await ask(client, player, game)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    reply = response.json()
    assert reply["answer"] == "Use cavalry [2]."
    assert reply["citations"] == [
        {
            "marker": 2,
            "document_id": "doc-cavalry",
            "title": "Cavalryman",
            "snippet": "Cavalryman. Level 1, cost 17. Cavalrymen resist blade attacks and are good against archers.",
            "source": "wesnoth 1.16",
            "url": "https://example.org/cavalryman",
            "start_ms": 61_000,
        }
    ]
    # (800 * 0.15 + 12 * 0.075 + 143 * 0.60) / 1,000,000
    assert reply["usage"] == {"prompt_tokens": 812, "completion_tokens": 143, "cost_usd": "0.0002067"}
    assert {name: reply[name] for name in ("is_cached", "cache", "similarity", "degraded", "covered")} == {
        "is_cached": False,
        "cache": "miss",
        "similarity": None,
        "degraded": False,
        "covered": True,
    }
    assert (reply["game"], reply["locale"], reply["patch"]) == (game, "en", "1.16.9")
    assert (reply["model"], reply["ai_generated"], reply["sources_as_of"]) == ("gpt-4o-mini", True, "2026-10-01")


async def test_ask_sends_the_games_model_parameters_prompt_and_passages(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], set_game: SetGame
) -> None:
    game = await set_game(model="gpt-4.1-mini", parameters={"temperature": 0.7, "max_tokens": 321, "seed": 7})
    await ask(client, player, game, context={"side": "attack"})
    (call,) = openai.chat_calls
    body = dict(call.body)
    system, user = body.pop("messages")
    assert body == {
        "model": "gpt-4.1-mini",
        "temperature": 0.7,
        "max_tokens": 321,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert user == {"role": "user", "content": QUESTION}
    assert system["role"] == "system"
    assert "You are a coach for The Battle for Wesnoth" in system["content"]
    assert '<source marker="[2]" title="Cavalryman">' in system["content"]
    assert "- side: attack" in system["content"]
    assert call.headers["authorization"] == "Bearer key-of-the-tests"
    assert "traceparent" in call.headers


async def test_ask_gives_rag_the_whole_scope(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str
) -> None:
    await ask(client, player, game, question="  \u200b궁수를 어떻게 이겨?\u200b ", context={"side": "attack"})
    (call,) = rag.retrievals
    version = call.body.pop("prompt_version")
    assert len(version) == 12
    assert call.body == {
        "game": game,
        "locale": "ko",
        "patch": "1.16.9",
        "model": "gpt-4o-mini",
        "context": {"side": "attack"},
        "question": "궁수를 어떻게 이겨?",
        "cross_lingual": True,
        "use_cache": True,
    }


@pytest.mark.parametrize("cache", ["exact", "semantic"])
async def test_ask_cached_answer_skips_the_model(
    client: httpx.AsyncClient,
    rag: RagStandin,
    openai: OpenAIStandin,
    player: dict[str, str],
    game: str,
    sessions: Sessions,
    cache: str,
) -> None:
    rag.has_cached(REMEMBERED, cache=cache, similarity=0.97)
    reply = (await ask(client, player, game)).json()
    assert openai.calls == []
    assert rag.remembered == []
    assert reply["answer"] == "Cavalry [2]."
    assert reply["citations"] == REMEMBERED["citations"]
    assert (reply["is_cached"], reply["cache"], reply["similarity"]) == (True, cache, 0.97)
    assert (reply["covered"], reply["sources_as_of"], reply["model"]) == (True, "2026-09-30", "gpt-4o-mini")
    assert reply["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "cost_usd": "0"}
    async with sessions() as session:
        row = await session.get_one(Answer, reply["id"])
    assert (row.is_cached, row.saved_usd) == (True, Decimal("0.000208"))


async def test_ask_not_covered_says_so_in_the_players_language_and_costs_nothing(
    client: httpx.AsyncClient, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    rag.knows_nothing()
    korean = (await ask(client, player, game, question="비행기는 어떻게 몰아?")).json()
    english = (await ask(client, player, game)).json()
    assert korean["answer"] == "이 게임의 자료에서는 이 질문에 대한 내용을 찾지 못했습니다."
    assert english["answer"] == "The sources for this game do not cover this question."
    for reply in (korean, english):
        assert (reply["covered"], reply["model"], reply["citations"]) == (False, None, [])
        assert reply["usage"]["cost_usd"] == "0"
    assert openai.calls == []
    assert rag.remembered == []


async def test_ask_remembers_the_answer_with_its_cost_and_cited_documents(
    client: httpx.AsyncClient, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry [2].", usage={"prompt_tokens": 1000, "completion_tokens": 100})
    reply = (await ask(client, player, game)).json()
    (remembered,) = rag.remembered
    assert remembered.pop("asker").isalnum()  # a digest, by which an erasure finds it; ids have hyphens
    assert remembered == {
        "scope": "scope-1",
        "flight": "flight-1",
        "question": QUESTION,
        "answer": {
            "answer": "Cavalry [2].",
            "citations": reply["citations"],
            "model": "gpt-4o-mini",
            "sources_as_of": "2026-10-01",
            "cost_usd": "0.00021",
        },
        "cited": [{"document_id": "doc-cavalry", "version": 1}],
    }


async def test_ask_does_not_remember_an_answer_that_cites_nothing(
    client: httpx.AsyncClient, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("The sources do not answer this.")
    assert (await ask(client, player, game)).json()["citations"] == []
    assert rag.remembered == []


async def test_ask_private_context_bypasses_the_cache_both_ways(
    client: httpx.AsyncClient, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    rag.has_cached(REMEMBERED)
    reply = (await ask(client, player, game, context={"nickname": "Ada", "side": "attack"})).json()
    assert reply["cache"] == "miss"
    assert len(openai.chat_calls) == 1
    assert "- nickname: Ada" in openai.chat_calls[0].body["messages"][0]["content"]
    (call,) = rag.retrievals
    assert (call.body["use_cache"], call.body["context"]) == (False, {"side": "attack"})
    assert rag.remembered == []


async def test_ask_removes_markers_that_no_passage_stands_behind(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry [2, 9], archers are weak [7].")
    reply = (await ask(client, player, game)).json()
    assert reply["answer"] == "Cavalry [2], archers are weak."
    assert [citation["marker"] for citation in reply["citations"]] == [2]


async def test_ask_drops_what_cannot_be_stored_from_the_models_words(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("\n Caval\0ry\x07 [2].")
    reply = (await ask(client, player, game)).json()
    assert reply["answer"] == "Cavalry [2]."
    assert (await client.get(f"/api/coach/answers/{reply['id']}", headers=player)).json()["answer"] == reply["answer"]


async def test_ask_when_rag_is_down_is_a_503_problem(
    client: httpx.AsyncClient, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    rag.is_down()
    response = await ask(client, player, game)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "unavailable"
    assert openai.calls == []


async def test_ask_answers_although_remembering_fails(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str
) -> None:
    rag.is_down(REMEMBER)
    before = await failures(client, "UnavailableError")
    assert (await ask(client, player, game)).status_code == 200
    assert await failures(client, "UnavailableError") == before + 1


async def failures(client: httpx.AsyncClient, reason: str) -> float:
    metrics = (await client.get("/metrics")).text
    series = f'coach_remember_failures_total{{reason="{reason}"}} '
    return next((float(line.removeprefix(series)) for line in metrics.splitlines() if line.startswith(series)), 0)


@pytest.mark.parametrize("status", [401, 404])
async def test_ask_when_the_model_is_not_available_quotes_the_sources_labelled_and_unremembered(
    client: httpx.AsyncClient, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str, status: int
) -> None:
    openai.fail(status)
    reply = (await ask(client, player, game)).json()
    assert (reply["degraded"], reply["model"]) == (True, "extractive")
    assert reply["answer"].startswith("The AI model is not available right now.")
    assert "good against archers. [2]" in reply["answer"].replace("”", "")
    assert {citation["document_id"] for citation in reply["citations"]} >= {"doc-cavalry"}
    assert rag.remembered == []


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"finish_reason": "content_filter"}, 502, "ai_filtered"),
        ({"finish_reason": "length"}, 502, "ai_truncated"),
        ({"cut_after": 2}, 502, "ai_interrupted"),
        ({"text": "[7]"}, 502, "ai_failed"),
    ],
)
async def test_ask_what_is_no_whole_answer_is_an_error_and_neither_stored_nor_remembered(
    client: httpx.AsyncClient,
    rag: RagStandin,
    openai: OpenAIStandin,
    player: dict[str, str],
    game: str,
    said: dict[str, Any],
    status: int,
    code: str,
) -> None:
    openai.say(**{"text": "Cavalry is good [2]."} | said)
    response = await ask(client, player, game)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert rag.remembered == []
    assert (await client.get("/api/coach/answers", headers=player)).json()["items"] == []


async def test_ask_cost_of_an_unknown_model_is_null_not_zero(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], set_game: SetGame
) -> None:
    openai.say("Cavalry [2].")
    reply = (await ask(client, player, await set_game(model="house-model"))).json()
    assert reply["usage"]["prompt_tokens"] > 0
    assert reply["usage"]["cost_usd"] is None


async def test_ask_counts_tokens_itself_when_the_model_reports_none(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str, sessions: Sessions
) -> None:
    openai.say("Cavalry is good [2].", usage="missing")
    reply = (await ask(client, player, game)).json()
    assert reply["usage"]["completion_tokens"] == 8
    assert Decimal(reply["usage"]["cost_usd"]) > 0
    async with sessions() as session:
        assert (await session.get_one(Answer, reply["id"])).usage_estimated


async def test_ask_stores_what_support_and_billing_need(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str, sessions: Sessions
) -> None:
    openai.say("Cavalry [2].", usage={"prompt_tokens": 10, "completion_tokens": 2})
    conversation = "01890a5d-ac96-774b-bcce-b302099a8057"
    reply = (await ask(client, player, game, conversation_id=conversation)).json()
    async with sessions() as session:
        row = await session.get_one(Answer, reply["id"])
    assert (row.question, row.answer, str(row.conversation_id)) == (QUESTION, "Cavalry [2].", conversation)
    assert (row.cost_usd, row.saved_usd, row.usage_estimated) == (Decimal("0.0000027"), Decimal(0), False)
    assert row.ttft_ms is not None
    assert row.trace_id is not None
    assert len(row.trace_id) == 32
    assert len(row.prompt_version) == 12


async def test_ask_never_logs_the_question(
    client: httpx.AsyncClient, player: dict[str, str], game: str, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(client, player, game, question="Who is the xylophone?")
    (record,) = [record for record in caplog.records if record.message == "answered"]
    assert (record.__dict__["cache"], record.__dict__["similarity"]) == ("miss", None)
    assert "xylophone" not in str([vars(record) for record in caplog.records])


async def test_keyless_coach_quotes_the_sources_and_remembers_that(
    keyless: httpx.AsyncClient, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    reply = (await ask(keyless, player, game, question="궁수를 뭐로 이겨?")).json()
    assert openai.calls == []
    assert (reply["model"], reply["degraded"], reply["ai_generated"]) == ("extractive", False, True)
    assert reply["answer"].startswith("자료에 있는 내용을 그대로 옮깁니다.")
    assert reply["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "cost_usd": "0"}
    assert reply["citations"]
    # The cache tells one way to quote from another.
    assert rag.retrievals[0].body["model"] == WRITER
    assert len(rag.remembered) == 1


async def test_ask_needs_a_token(client: httpx.AsyncClient, game: str) -> None:
    response = await ask(client, {}, game)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


async def test_ask_refuses_a_services_token(client: httpx.AsyncClient, tokens: Tokens, game: str) -> None:
    response = await ask(client, tokens.service_headers("worker", "coach", "coach:complete"), game)
    assert response.status_code == 401
