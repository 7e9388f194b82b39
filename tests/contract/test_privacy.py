"""Auth's view of the services that hold something of persons against their apps: pages of an export, and erasure."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

import admin.app
import admin.settings
import coach.app
import coach.settings
import worker.app
import worker.settings
from admin.models import Audit
from auth.clients import RECORDS, Holder
from auth.service_clients import own_scope
from coach.models import Answer, Game
from common.db import Sessions, create_engine, session_factory, utc_now
from common.testing import Database, Tokens, running
from standins.server import serve
from worker.models import Upload

SERVICES: dict[str, tuple[Any, Any]] = {
    "coach": (coach.app.build, coach.settings.Settings),
    "worker": (worker.app.build, worker.settings.Settings),
    "admin": (admin.app.build, admin.settings.Settings),
}
ROWS = 3


@asynccontextmanager
async def committed(database: Database, service: str) -> AsyncIterator[Sessions]:
    engine = create_engine(database.migrated(service), application="tests", pool_size=1)
    yield session_factory(engine)
    await engine.dispose()


def of(service: str, user_id: UUID) -> list[Any]:
    """Rows that name a person, as the service writes them."""
    match service:
        case "coach":
            figures = {"prompt_tokens": 1, "cached_prompt_tokens": 0, "completion_tokens": 1, "usage_estimated": False}
            said: dict[str, Any] = {"game": "contract-privacy", "locale": "ko", "patch": "1", "prompt_version": "1"}
            said |= {"question": "활은?", "answer": "네 [1]", "citations": [], "latency_ms": 1, "created_at": utc_now()}
            said |= {"is_cached": False, "cache": "miss", "degraded": False, "covered": True}
            return [Answer(user_id=user_id, **said, **figures) for _ in range(ROWS)]
        case "worker":
            file = {"kind": "text", "filename": "a.txt", "game": "g", "locale": "en", "sha256": "0" * 64, "size": 1}
            return [Upload(uploaded_by=user_id, fingerprint=uuid4().hex, content=b"a", **file) for _ in range(ROWS)]
        case _:
            return [Audit(actor_id=user_id, action="game.put", target="chess", outcome="done") for _ in range(ROWS)]


async def write(database: Database, service: str, user_id: UUID) -> None:
    async with committed(database, service) as sessions, sessions.begin() as session:
        if service == "coach":
            names: dict[str, Any] = {"titles": {}, "locales": [], "parameters": {}, "context": {}}
            card = {"slug": "contract-privacy", "patch": "1", "template": "default", "cross_lingual": True}
            await session.merge(Game(**card, **names, sample_questions={}))
            await session.flush()
        session.add_all(of(service, user_id))


async def rows_naming(database: Database, service: str, user_id: UUID) -> int:
    table = {"coach": "answer", "worker": "upload", "admin": "audit"}[service]
    async with committed(database, service) as sessions, sessions() as session:
        query = text(f"SELECT count(*) FROM {service}.{table} t WHERE t::text LIKE '%{user_id}%'")  # noqa: S608
        return int((await session.exec(query)).scalar_one())  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def rag_url() -> Iterator[str]:
    """A rag that forgets, which coach asks first."""
    rag = FastAPI()

    @rag.post("/internal/answers/forget")
    def forget() -> dict[str, int]:
        return {"forgotten": 0}

    with serve(rag) as server:
        yield server.url


@pytest.fixture(scope="module")
def addresses(database: Database) -> dict[str, SecretStr]:
    """Of each service's schema, migrated: that takes an event loop of its own."""
    return {service: SecretStr(database.migrated(service)) for service in RECORDS}


@pytest.fixture(params=RECORDS)
async def holder(
    request: pytest.FixtureRequest,
    settings: dict[str, Any],
    addresses: dict[str, SecretStr],
    tokens: Tokens,
    rag_url: str,
) -> AsyncIterator[Holder]:
    """Auth's client of each service."""
    service: str = request.param
    build, settings_of = SERVICES[service]
    told = {**settings, "rag_url": rag_url, "database_url": addresses[service]}
    async with running(build(settings_of(**told))) as http:
        http.headers.update(tokens.service_headers("auth", service, own_scope(service)))
        yield Holder(service, http)


async def test_a_service_gives_its_records_page_by_page_and_erases(
    holder: Holder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{holder.name}.privacy.PAGE", 2)
    user_id = uuid4()
    await write(database, holder.name, user_id)
    first = await holder.export_page(user_id)
    last = await holder.export_page(user_id, first.next_cursor)
    assert (len(first.records), len(last.records), last.next_cursor) == (2, 1, None)
    assert first.records[0]["id"] != last.records[0]["id"]
    assert await rows_naming(database, holder.name, user_id) == ROWS
    for _ in range(2):
        await holder.erase(user_id, uuid4(), within_seconds=10)
        assert await rows_naming(database, holder.name, user_id) == 0
    assert (await holder.export_page(user_id)).records == []
