"""Questions are answered, uncached, while the cache Redis is away or does not answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from common.db import Sessions
from common.testing import running
from devstack.redis import run_redis
from rag.app import build
from rag.settings import Settings

ASKED = {"game": "units", "locale": "ko", "patch": "1", "prompt_version": "p", "model": "m", "question": "창병 비용?"}


def fallbacks(operation: str) -> float:
    return REGISTRY.get_sample_value("rag_cache_fallbacks_total", {"operation": operation}) or 0.0


@asynccontextmanager
async def with_cache_at(url: str, settings: Settings, sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    changed = settings.model_copy(update={"cache_redis_url": SecretStr(url)})
    async with running(build(changed), sessions=sessions) as client:
        yield client


@pytest.fixture
async def silent_server() -> AsyncIterator[str]:
    """Address of a server that takes connections and never says a word."""
    finished = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await finished.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finished.set()
    server.close()
    await server.wait_closed()


async def test_documents_and_questions_survive_the_loss_of_the_cache(
    settings: Settings,
    sessions: Sessions,
    tmp_path: Path,
    as_coach: dict[str, str],
    as_worker: dict[str, str],
    units: list[dict[str, Any]],
) -> None:
    with run_redis(tmp_path, "cache", throwaway=True) as redis:
        async with with_cache_at(redis.url, settings, sessions) as client:
            await client.put("/internal/documents", json={"game": "units", "documents": units[:3]}, headers=as_worker)
            url = redis.url
    before = {name: fallbacks(name) for name in ("lookup", "remember", "announce")}
    async with with_cache_at(url, settings, sessions) as client:
        body = {"game": "units", "documents": units}
        published = (await client.put("/internal/documents", json=body, headers=as_worker)).json()["documents"]
        assert [item["state"] for item in published] == ["unchanged"] * 3 + ["created"] * 3
        found = (await client.post("/retrieve", json=ASKED, headers=as_coach)).json()
        assert (found["outcome"], found["passages"][0]["title"]) == ("lead", "창병")
        offer = {"scope": found["scope"], "flight": found["flight"], "question": ASKED["question"], "answer": "금 14"}
        remembered = await client.post("/remember", json=offer | {"cited": []}, headers=as_coach)
        assert remembered.json() == {"stored": False, "reason": "the cache is not available"}
        ready = await client.get("/readyz")
    assert {name: fallbacks(name) - count for name, count in before.items()} == dict.fromkeys(before, 1)
    assert (ready.status_code, ready.json()["checks"]["redis_cache"]["ok"]) == (200, False)


async def test_a_silent_cache_delays_a_question_by_one_timeout_at_most(
    settings: Settings, sessions: Sessions, silent_server: str, as_coach: dict[str, str]
) -> None:
    async with with_cache_at(silent_server, settings, sessions) as client:
        started = time.monotonic()
        response = await client.post("/retrieve", json=ASKED, headers=as_coach)
        assert (response.status_code, response.json()["outcome"]) == (200, "lead")
        assert time.monotonic() - started < 3
