"""Tests of forgetting: answers made from an erased person's questions leave the cache, nobody else's do."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from common.db import Sessions
from common.testing import Tokens, running
from rag.app import build
from rag.settings import Settings

from .conftest import Ask, Publish

ASKER, ANOTHER = "a" * 64, "b" * 64
MINE, THEIRS = "창병의 비용은 얼마야?", "마법사의 비용은 얼마야?"


@pytest.fixture
async def cached(publish: Publish, units: list[dict[str, Any]], ask: Ask, remember: Ask) -> None:
    """Two answers, each made for somebody, the first in two scopes."""
    await publish(*units)
    for question, asker, patch in ((MINE, ASKER, "1.0"), (MINE, ASKER, "1.1"), (THEIRS, ANOTHER, "1.0")):
        found = await ask(question, patch=patch)
        assert (await remember(found, question, asker=asker))["stored"] is True


async def test_an_askers_answers_are_forgotten_in_every_scope_and_tier(
    client: httpx.AsyncClient, redis: Redis, as_coach: dict[str, str], cached: None, ask: Ask
) -> None:
    reply = await client.post("/internal/answers/forget", json={"asker": ASKER}, headers=as_coach)
    assert (reply.status_code, reply.json()) == (200, {"forgotten": 2})
    assert [(await ask(MINE, patch=patch))["outcome"] for patch in ("1.0", "1.1")] == ["lead", "lead"]
    assert (await ask(THEIRS))["hit"]["cache"] == "exact"
    async for key in redis.scan_iter("rag:answer:*"):
        assert await redis.hget(key, "question") != MINE.encode()
    elements = [await redis.execute_command("VCARD", key) async for key in redis.scan_iter("rag:semantic:*")]
    assert sum(elements) == 1


async def test_forgetting_again_finds_nothing(
    client: httpx.AsyncClient, as_coach: dict[str, str], cached: None
) -> None:
    for expected in (2, 0):
        reply = await client.post("/internal/answers/forget", json={"asker": ASKER}, headers=as_coach)
        assert reply.json() == {"forgotten": expected}


async def test_answers_of_a_crowd_are_all_looked_through(
    client: httpx.AsyncClient, redis: Redis, as_coach: dict[str, str]
) -> None:
    async with redis.pipeline() as pipeline:
        for number in range(1_300):
            pipeline.hset(f"rag:answer:scope:{number}", mapping={"asker": ASKER if number % 3 else ANOTHER})
        await pipeline.execute()
    reply = await client.post("/internal/answers/forget", json={"asker": ASKER}, headers=as_coach)
    assert reply.json() == {"forgotten": 866}
    assert len([key async for key in redis.scan_iter("rag:answer:*")]) == 434


@pytest.fixture
async def without_cache(settings: Settings, sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    away = settings.model_copy(update={"cache_redis_url": SecretStr("redis://127.0.0.1:1")})
    async with running(build(away), sessions=sessions) as client:
        yield client


async def test_without_the_cache_nothing_is_said_to_be_forgotten(
    without_cache: httpx.AsyncClient, as_coach: dict[str, str]
) -> None:
    reply = await without_cache.post("/internal/answers/forget", json={"asker": ASKER}, headers=as_coach)
    assert reply.status_code == 503
    assert "retry-after" in reply.headers


async def test_only_coach_makes_rag_forget(client: httpx.AsyncClient, tokens: Tokens) -> None:
    for headers in (tokens.headers(role="admin"), tokens.service_headers("worker", "rag", "rag:documents")):
        reply = await client.post("/internal/answers/forget", json={"asker": ASKER}, headers=headers)
        assert reply.status_code == 403
