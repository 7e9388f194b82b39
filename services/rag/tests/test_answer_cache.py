"""What the caches serve, what they refuse, and how an answer becomes unservable."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from common.db import Sessions
from common.testing import running
from rag.app import build
from rag.settings import Settings
from standins.openai import run_openai

Document = Callable[..., dict[str, Any]]
Publish = Callable[..., Awaitable[list[dict[str, Any]]]]
Ask = Callable[..., Awaitable[dict[str, Any]]]
Units = list[dict[str, Any]]

QUESTION = "창병의 비용이 얼마야?"
ANSWER = {"text": "금 14 [1]", "citations": [{"marker": 1}]}


@pytest.fixture
async def remembered(publish: Publish, ask: Ask, remember: Ask, units: Units) -> dict[str, Any]:
    """QUESTION, answered from its first passage and remembered; what had been found for it."""
    await publish(*units)
    found = await ask(QUESTION)
    assert await remember(found, QUESTION, answer=ANSWER) == {"stored": True, "reason": None}
    return found


async def test_the_same_question_is_answered_by_the_exact_cache(remembered: dict[str, Any], ask: Ask) -> None:
    again = await ask("  창병의 비용이   얼마야")
    assert again["outcome"] == "hit"
    assert again["hit"] == {"cache": "exact", "similarity": None, "answer": ANSWER}
    assert again["passages"] == []


async def test_a_rewording_is_answered_by_the_semantic_cache(remembered: dict[str, Any], ask: Ask) -> None:
    reworded = await ask("혹시 창병 비용은 얼마인가요?")
    assert (reworded["outcome"], reworded["hit"]["cache"]) == ("hit", "semantic")
    assert reworded["hit"]["answer"] == ANSWER
    assert reworded["hit"]["similarity"] > 0.9


async def test_the_semantic_cache_answers_after_the_exact_one_has_forgotten(
    remembered: dict[str, Any], ask: Ask, redis: Redis
) -> None:
    await redis.delete(*[key async for key in redis.scan_iter("rag:exact:*")])
    assert (await ask(QUESTION))["hit"]["cache"] == "semantic"


@pytest.mark.parametrize("near_miss", ["궁수의 비용이 얼마야?", "창병의 체력이 얼마야?", "창병의 비용이 20이야?"])
async def test_a_near_miss_is_not_answered_from_the_cache(remembered: dict[str, Any], ask: Ask, near_miss: str) -> None:
    assert (await ask(near_miss))["outcome"] == "lead"


async def test_a_refusal_is_logged_without_the_players_words(
    remembered: dict[str, Any], ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await ask("창병의 비용이 얼마였어?")
    logged = [vars(record) for record in caplog.records if record.name.startswith("rag.")]
    assert "other content" in [record.get("reason") for record in logged]
    assert not any(word in str(logged) for word in ("창병", "비용", "얼마"))


@pytest.mark.parametrize(
    "change",
    [
        {"game": "other"},
        {"locale": "en"},
        {"patch": "1.1"},
        {"prompt_version": "p2"},
        {"model": "m2"},
        {"context": {"side": "attack"}},
        {"cross_lingual": False},
    ],
)
async def test_another_scope_is_not_served(remembered: dict[str, Any], ask: Ask, change: dict[str, Any]) -> None:
    assert (await ask(QUESTION, **change))["outcome"] == "lead"


async def test_a_question_may_bypass_the_cache_both_ways(remembered: dict[str, Any], ask: Ask, remember: Ask) -> None:
    found = await ask(QUESTION, use_cache=False)
    assert found["outcome"] == "lead"
    assert not (await remember(found, QUESTION))["stored"]


async def test_replacing_a_cited_document_makes_the_answer_unservable(
    remembered: dict[str, Any], ask: Ask, publish: Publish, document: Document
) -> None:
    await publish(document("창병", "창병의 비용은 금 15이다."))
    assert (await ask(QUESTION))["outcome"] == "lead"
    assert (await ask("창병 비용은 얼마인가요?"))["outcome"] == "lead"


async def test_deleting_a_cited_document_makes_the_answer_unservable_at_once(
    remembered: dict[str, Any], ask: Ask, client: httpx.AsyncClient, as_worker: dict[str, str]
) -> None:
    cited, uncited = remembered["passages"][0], remembered["passages"][1]
    await client.delete(f"/internal/documents/{uncited['document_id']}", headers=as_worker)
    assert (await ask(QUESTION))["outcome"] == "hit"
    await client.delete(f"/internal/documents/{cited['document_id']}", headers=as_worker)
    assert (await ask(QUESTION))["outcome"] == "lead"
    assert (await ask("창병 비용은 얼마인가요?"))["outcome"] == "lead"


async def test_an_answer_stays_unservable_when_the_copy_of_its_version_is_lost(
    remembered: dict[str, Any], ask: Ask, client: httpx.AsyncClient, as_worker: dict[str, str], redis: Redis
) -> None:
    cited = remembered["passages"][0]["document_id"]
    await client.delete(f"/internal/documents/{cited}", headers=as_worker)
    await redis.delete(f"rag:version:{cited}", "rag:generation:units")
    assert (await ask(QUESTION))["outcome"] == "lead"


async def test_new_documents_make_answers_of_the_game_unservable(
    remembered: dict[str, Any], ask: Ask, publish: Publish, document: Document
) -> None:
    await publish(document("패치", "이번 패치에서 창병의 비용이 바뀌었다."))
    assert (await ask(QUESTION))["outcome"] == "lead"


async def test_an_answer_made_before_a_publication_is_not_taken(
    publish: Publish, ask: Ask, remember: Ask, units: Units, document: Document
) -> None:
    await publish(*units)
    found = await ask(QUESTION)
    await publish(document("패치", "이번 패치에서 창병의 비용이 바뀌었다."))
    assert await remember(found, QUESTION) == {"stored": False, "reason": "the documents have changed"}


async def test_an_answer_is_taken_once(remembered: dict[str, Any], remember: Ask) -> None:
    assert await remember(remembered, QUESTION) == {"stored": False, "reason": "the flight has ended"}


async def test_of_answers_offered_together_one_is_taken(
    publish: Publish, ask: Ask, remember: Ask, units: Units
) -> None:
    await publish(*units)
    found = await ask(QUESTION)
    offered = await asyncio.gather(*(remember(found, QUESTION, answer=number) for number in range(5)))
    [taken] = [number for number, reply in enumerate(offered) if reply["stored"]]
    assert (await ask(QUESTION))["hit"]["answer"] == taken


async def test_an_answer_is_taken_for_its_own_question_and_scope_only(
    publish: Publish, ask: Ask, remember: Ask, units: Units
) -> None:
    await publish(*units)
    found = await ask(QUESTION)
    assert (await remember(found, "궁수의 비용이 얼마야?"))["reason"] == "it answers another question"
    assert (await remember(found | {"scope": "0" * 64}, QUESTION))["reason"] == "the flight has ended"


async def test_an_answer_must_cite_what_was_found(publish: Publish, ask: Ask, remember: Ask, units: Units) -> None:
    await publish(*units)
    found = await ask(QUESTION)
    invented = [{"document_id": found["flight"], "version": 1}]
    assert (await remember(found, QUESTION, cited=[]))["reason"] == "it cites nothing"
    assert (await remember(found, QUESTION, cited=invented))["reason"] == "it cites what was not found"


async def test_an_answer_to_what_is_not_covered_is_not_taken(
    publish: Publish, ask: Ask, remember: Ask, units: Units
) -> None:
    await publish(*units)
    question = "김치찌개 맛있게 끓이는 법 알려줘"
    found = await ask(question)
    assert (await remember(found, question))["reason"] == "the sources do not cover the question"


async def test_every_key_of_the_cache_expires_and_reading_does_not_renew_it(
    remembered: dict[str, Any], ask: Ask, redis: Redis
) -> None:
    keys = [key async for key in redis.scan_iter("rag:*")]
    assert {key.split(b":")[1] for key in keys} == {b"answer", b"exact", b"semantic", b"version", b"generation"}
    for key in keys:
        assert await redis.ttl(key) > 0
        await redis.expire(key, 50)
    await ask(QUESTION)
    await ask("창병 비용은 얼마인가요?")
    for key in keys:
        assert await redis.ttl(key) <= 50


async def test_an_expired_answer_leaves_the_vector_set(remembered: dict[str, Any], ask: Ask, redis: Redis) -> None:
    await redis.delete(*[key async for key in redis.scan_iter("rag:answer:*")])
    assert (await ask("창병 비용은 얼마인가요?"))["outcome"] == "lead"
    assert [key async for key in redis.scan_iter("rag:semantic:*")] == []


@pytest.fixture
def uncalibrated(settings: Settings) -> Iterator[Settings]:
    """Settings for a model that nobody has measured."""
    with run_openai() as openai:
        changes = {"openai_api_key": SecretStr("sk-of-the-tests"), "openai_base_url": openai.base_url}
        yield settings.model_copy(update={"embedding_provider": "openai", **changes})


async def test_without_calibration_the_semantic_tier_is_off_and_says_so(
    uncalibrated: Settings, sessions: Sessions, clean_redis: None
) -> None:
    async with running(build(uncalibrated), sessions=sessions) as client:
        ready = await client.get("/readyz")
    detail = ready.json()["checks"]["semantic_cache"]["detail"]
    assert (ready.status_code, detail) == (200, "off: no calibration for text-embedding-3-small-384")


async def test_without_calibration_the_exact_tier_works(
    uncalibrated: Settings,
    sessions: Sessions,
    clean_redis: None,
    as_coach: dict[str, str],
    as_worker: dict[str, str],
    units: Units,
) -> None:
    async with running(build(uncalibrated), sessions=sessions) as client:

        async def ask(question: str) -> dict[str, Any]:
            body = {"game": "units", "locale": "ko", "patch": "1", "prompt_version": "p", "model": "m"}
            asked = await client.post("/retrieve", json=body | {"question": question}, headers=as_coach)
            retrieved: dict[str, Any] = asked.json()
            return retrieved

        await client.put("/internal/documents", json={"game": "units", "documents": units}, headers=as_worker)
        found = await ask(QUESTION)
        cited = [{name: found["passages"][0][name] for name in ("document_id", "version")}]
        offer = {"scope": found["scope"], "flight": found["flight"], "question": QUESTION, "cited": cited}
        offered = await client.post("/remember", json=offer | {"answer": ANSWER}, headers=as_coach)
        assert offered.json()["stored"] is True
        assert (await ask(QUESTION))["hit"]["cache"] == "exact"
        assert (await ask("창병 비용은 얼마인가요?"))["outcome"] == "lead"
