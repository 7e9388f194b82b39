"""Health, transactions and request ids of an app made by the factory."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import select
from starlette.types import Receive, Scope, Send

from common.app import create_app
from common.db import SessionDep, create_engine, session_factory
from common.settings import ServiceSettings
from common.testing import listening, running
from devstack.postgres import run_postgres

SECRET = SecretStr("notes-secret-of-the-tests")

one = APIRouter()


@one.get("/one")
async def read_one(session: SessionDep) -> int:
    return (await session.exec(select(1))).one()


@one.post("/length")
async def read_length(request: Request) -> int:
    return len(await request.body())


@asynccontextmanager
async def nothing_more(app: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield {}


async def test_healthz_answers_while_nothing_is_checked(client: httpx.AsyncClient) -> None:
    response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_head_is_get_without_a_body(app: FastAPI) -> None:
    async with listening(app) as url, httpx.AsyncClient(base_url=url) as client:
        got, head = await client.get("/healthz"), await client.head("/healthz")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"] != "0"
        assert (await client.head("/nowhere")).status_code == 404
        assert (await client.head("/notes")).headers["allow"] == "POST"


async def test_readyz_lists_every_dependency(client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 200
    assert {name: check["ok"] for name, check in response.json()["checks"].items()} == {
        "postgres": True,
        "redis_state": True,
        "revocations": True,
        "revocations_fresh": True,
    }


async def test_readyz_names_the_dependency_that_is_away(notes_url: str, auth_url: str) -> None:
    settings = ServiceSettings(
        env="development",
        auth_url=auth_url,
        database_url=SecretStr(notes_url),
        cache_redis_url=SecretStr("redis://127.0.0.1:1/0"),
        client_secret=SECRET,
    )
    async with running(create_app("notes", settings, [], nothing_more)) as client:
        response = await client.get("/readyz")
    assert response.status_code == 503
    checks = response.json()["checks"]
    assert checks["postgres"]["ok"] is True
    assert checks["redis_cache"] == {
        "ok": False,
        "detail": "ConnectionError",
        "duration_ms": checks["redis_cache"]["duration_ms"],
    }


async def test_a_process_that_never_learnt_what_is_revoked_is_not_ready_since_it_lets_nobody_in() -> None:
    settings = ServiceSettings(env="development", auth_url="http://127.0.0.1:1", client_secret=SECRET)
    async with running(create_app("notes", settings, [], nothing_more)) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "not_ready")
    assert response.json()["checks"]["revocations"]["ok"] is False


async def test_rows_are_created_read_and_deleted(client: httpx.AsyncClient) -> None:
    created = await client.post("/notes", json={"text": "first"})
    assert created.status_code == 201
    assert [note["id"] for note in (await client.get("/notes/first")).json()] == [created.json()["id"]]
    assert (await client.delete("/notes/first")).status_code == 204
    assert (await client.get("/notes/first")).json() == []


async def test_a_commit_that_fails_is_no_success(client: httpx.AsyncClient) -> None:
    assert (await client.post("/notes", json={"text": "twice"})).status_code == 201
    response = await client.post("/notes", json={"text": "twice"})
    assert response.status_code == 500
    assert len((await client.get("/notes/twice")).json()) == 1


async def test_a_statement_that_fails_leaves_no_words_of_a_player_in_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.get("/notes/my%20diary%00")).status_code == 500
    assert "SELECT" in caplog.text
    assert "my diary" not in caplog.text


async def test_a_slash_too_many_leads_nowhere_rather_than_to_an_address_of_ours(client: httpx.AsyncClient) -> None:
    assert (await client.get("/me/")).status_code == 404


async def test_a_well_formed_request_id_is_kept_and_another_replaced(client: httpx.AsyncClient) -> None:
    kept = await client.get("/healthz", headers={"X-Request-ID": "client-chosen-1"})
    assert kept.headers["x-request-id"] == "client-chosen-1"
    replaced = await client.get("/healthz", headers={"X-Request-ID": "line\tbreak {}"})
    assert replaced.headers["x-request-id"] != "line\tbreak {}"


async def test_a_client_that_leaves_within_its_body_is_no_bug_of_ours(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    app.include_router(one)
    left = asyncio.Event()

    async def seen(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope["type"] == "http":
            left.set()

    caplog.set_level("INFO")
    async with listening(seen) as url:
        _, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
        writer.close()
        await asyncio.wait_for(left.wait(), 5)
    assert "unexpected error" not in caplog.text
    assert [vars(record)["status"] for record in caplog.records if record.message == "request"] == [499]


async def test_metrics_name_route_templates_only(client: httpx.AsyncClient) -> None:
    for path in ("/notes/a1", "/notes/a2", "/nowhere/1", "/nowhere/2"):
        await client.get(path)
    exposition = (await client.get("/metrics")).text
    assert 'route="/notes/{note_text}"' in exposition
    assert 'route="unmatched"' in exposition
    assert "/nowhere" not in exposition
    assert "/notes/a1" not in exposition


async def test_a_silent_postgres_is_no_bug_of_ours(
    app: FastAPI, notes_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    patient, engine = (create_async_engine(notes_url, connect_args={"command_timeout": s}) for s in (30, 0.2))
    app.state.sessions = session_factory(engine)
    async with patient.begin() as other, running(app) as client:
        await other.execute(text("LOCK TABLE notes.note"))
        response = await client.get("/notes/any")
    await patient.dispose()
    await engine.dispose()
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert "unexpected error" not in caplog.text


async def test_a_connection_that_postgres_ends_is_no_bug_of_ours(
    app: FastAPI, notes_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    patient, engine = (create_engine(notes_url, application="tests", pool_size=size) for size in (2, 1))
    app.state.sessions = session_factory(engine)
    async with patient.begin() as other, running(app) as client:
        await other.execute(text("LOCK TABLE notes.note"))
        waiting = asyncio.create_task(client.get("/notes/any"))
        await _end_who_waits(patient)
        response = await waiting
    await patient.dispose()
    await engine.dispose()
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert "unexpected error" not in caplog.text


async def _end_who_waits(engine: AsyncEngine) -> None:
    """As Postgres does to everybody when it restarts."""
    end = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'relation'")
    async with asyncio.timeout(5):
        while True:
            async with engine.begin() as connection:
                if (await connection.execute(end)).scalar():
                    return
            await asyncio.sleep(0.01)


async def test_without_postgres_a_request_is_told_to_come_again(auth_url: str, tmp_path_factory: Any) -> None:
    with run_postgres(tmp_path_factory.mktemp("postgres"), throwaway=True) as server:
        url = server.url().replace("postgresql:", "postgresql+asyncpg:")
        settings = ServiceSettings(
            env="development", auth_url=auth_url, database_url=SecretStr(url), client_secret=SECRET
        )
        app = create_app("notes", settings, [one], nothing_more)
        stack = AsyncExitStack()
        client = await stack.enter_async_context(running(app))
        assert (await client.get("/one")).json() == 1
    async with stack:
        for _ in range(2):  # a connection that breaks, then none to be had
            response = await client.get("/one", headers={"Accept-Language": "ko"})
            assert (response.status_code, response.json()["code"]) == (503, "unavailable")
            assert response.headers["retry-after"] == "2"


async def test_an_app_that_cannot_start_fails_the_test_that_listens_to_it_and_no_other() -> None:
    @asynccontextmanager
    async def broken(app: FastAPI) -> AsyncIterator[None]:
        raise ValueError("no key")
        yield

    with pytest.raises(RuntimeError, match="did not start"):
        async with listening(FastAPI(lifespan=broken)):
            pytest.fail("it does not listen")
