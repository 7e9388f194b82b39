"""Rag's app on a real Postgres, a real Redis and the real local model."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from common.db import Sessions
from common.testing import Database, Tokens, rolled_back, running
from rag.app import build
from rag.settings import Settings

Document = Callable[..., dict[str, Any]]
Publish = Callable[..., Awaitable[list[dict[str, Any]]]]
Ask = Callable[..., Awaitable[dict[str, Any]]]

COSTS = {
    "창병": "창병의 비용은 금 14이고 체력은 36이다. 장검병이나 극창병으로 승급한다.",
    "마법사": "마법사의 비용은 금 20이고 체력은 24이다. 하얀 마법사나 붉은 마법사로 승급한다.",
    "기병": "기병의 비용은 금 17이고 체력은 34이다. 용기병으로 승급한다.",
    "궁수": "궁수의 비용은 금 14이고 체력은 33이다. 장궁병으로 승급한다.",
    "중보병": "중보병의 비용은 금 19이고 체력은 38이다. 충격병으로 승급한다.",
    "펜싱병": "펜싱병의 비용은 금 16이고 체력은 28이다. 결투가로 승급한다.",
}


@pytest.fixture(scope="session")
def settings(database: Database, redis_urls: dict[str, str], auth_url: str) -> Settings:
    return Settings(
        env="development",
        auth_url=auth_url,
        database_url=SecretStr(database.migrated("rag")),
        cache_redis_url=SecretStr(redis_urls["cache"]),
        client_secret=SecretStr("rag-secret-of-the-tests"),
    )


@pytest.fixture
async def sessions(settings: Settings) -> AsyncIterator[Sessions]:
    async with rolled_back(settings.database_url.get_secret_value()) as sessions:
        yield sessions


@pytest.fixture
async def client(settings: Settings, sessions: Sessions, clean_redis: None) -> AsyncIterator[httpx.AsyncClient]:
    async with running(build(settings), sessions=sessions) as client:
        yield client


@pytest.fixture
async def redis(redis_urls: dict[str, str]) -> AsyncIterator[Redis]:
    """The cache, as the service sees it."""
    async with Redis.from_url(redis_urls["cache"], protocol=3) as redis:
        yield redis


@pytest.fixture(scope="session")
def as_coach(tokens: Tokens) -> dict[str, str]:
    return tokens.service_headers("coach", "rag", "rag:answer")


@pytest.fixture(scope="session")
def as_worker(tokens: Tokens) -> dict[str, str]:
    return tokens.service_headers("worker", "rag", "rag:documents")


@pytest.fixture(scope="session")
def document() -> Document:
    """Makes a document of one chunk, as the worker sends it; keywords replace its fields."""

    def document(key: str, text: str, **fields: Any) -> dict[str, Any]:
        return {
            "key": key,
            "locale": "ko",
            "kind": "text",
            "title": key,
            "source": "tests",
            "licence": "CC0-1.0",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "chunks": [{"text": text}],
            **fields,
        }

    return document


@pytest.fixture(scope="session")
def units(document: Document) -> list[dict[str, Any]]:
    """Six documents on units of a game."""
    return [document(name, text) for name, text in COSTS.items()]


@pytest.fixture
def publish(client: httpx.AsyncClient, as_worker: dict[str, str]) -> Publish:
    """Publishes documents and returns what became of them."""

    async def publish(*documents: dict[str, Any], game: str = "units") -> list[dict[str, Any]]:
        body = {"game": game, "documents": documents}
        response = await client.put("/internal/documents", json=body, headers=as_worker)
        assert response.status_code == 200, response.text
        published: list[dict[str, Any]] = response.json()["documents"]
        return published

    return publish


@pytest.fixture
def ask(client: httpx.AsyncClient, as_coach: dict[str, str]) -> Ask:
    """Asks as coach does; keywords replace fields of the request."""

    async def ask(question: str, **fields: Any) -> dict[str, Any]:
        body = {"game": "units", "locale": "ko", "patch": "1.0", "prompt_version": "p1", "model": "m1"}
        response = await client.post("/retrieve", json=body | {"question": question} | fields, headers=as_coach)
        assert response.status_code == 200, response.text
        retrieved: dict[str, Any] = response.json()
        return retrieved

    return ask


@pytest.fixture
def remember(client: httpx.AsyncClient, as_coach: dict[str, str]) -> Ask:
    """Offers an answer that cites the first passage of what `ask` found; keywords replace fields of the offer."""

    async def remember(found: dict[str, Any], question: str, **fields: Any) -> dict[str, Any]:
        cited = [{name: passage[name] for name in ("document_id", "version")} for passage in found["passages"][:1]]
        body = {"scope": found["scope"], "flight": found["flight"], "question": question, "cited": cited}
        body |= {"answer": {"text": "금 14"}} | fields
        response = await client.post("/remember", json=body, headers=as_coach)
        assert response.status_code == 200, response.text
        remembered: dict[str, Any] = response.json()
        return remembered

    return remember
