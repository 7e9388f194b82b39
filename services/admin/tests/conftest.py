"""The ops API on a real Postgres, with the other services as stand-ins."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from admin.app import build
from admin.models import Audit
from admin.settings import Settings
from common.db import Sessions, create_engine, session_factory
from common.testing import Database, Tokens, auth_standin, running
from standins.server import Server, serve
from standins.standin import run

from .neighbours import STATS, AuthOps, Neighbour

PREMIUM = {"players": 50, "premium": 6, "premium_share": 0.12}


@dataclass
class Services:
    """All that stands behind the ops API."""

    auth: Server
    auth_ops: AuthOps
    coach: Neighbour
    rag: Neighbour
    worker: Neighbour


@pytest.fixture(scope="session")
def served(tokens: Tokens) -> Iterator[Services]:
    auth = auth_standin(tokens)

    @auth.get("/internal/stats")
    async def stats() -> dict[str, float]:
        return PREMIUM

    ops = AuthOps(auth)
    with ExitStack() as stack:
        yield Services(
            stack.enter_context(serve(auth)), ops, *(stack.enter_context(run(Neighbour())) for _ in range(3))
        )


@pytest.fixture
def services(served: Services) -> Services:
    """Nothing asked yet; games and statistics are there."""
    for neighbour in (served.auth_ops, served.coach, served.rag, served.worker):
        neighbour.clear()
    served.coach.answers("GET", "/internal/stats", STATS)
    served.coach.answers("GET", "/internal/games", {"games": []})
    return served


@pytest.fixture(scope="session")
def settings(database: Database, served: Services) -> Settings:
    return Settings(
        env="development",
        auth_url=served.auth.url,
        coach_url=served.coach.url,
        rag_url=served.rag.url,
        worker_url=served.worker.url,
        client_secret=SecretStr("admin-secret-of-the-tests"),
        database_url=SecretStr(database.migrated("admin")),
        page_seconds=0.5,
        upload_max_bytes=3_000_000,
    )


@pytest.fixture
async def client(settings: Settings, services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with running(build(settings)) as client:
        yield client


@pytest.fixture
async def sessions(settings: Settings) -> AsyncIterator[Sessions]:
    engine = create_engine(settings.database_url.get_secret_value(), application="tests", pool_size=2)
    yield session_factory(engine)
    await engine.dispose()


@dataclass
class Person:
    """Somebody signed in."""

    id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture
def admin(tokens: Tokens) -> Person:
    user_id = uuid4()
    return Person(user_id, tokens.player(user_id, role="admin"))


@pytest.fixture
def viewer(tokens: Tokens) -> Person:
    user_id = uuid4()
    return Person(user_id, tokens.player(user_id, role="viewer"))


async def audit_of(sessions: Sessions, person: Person) -> list[Audit]:
    """What is written down about somebody."""
    async with sessions() as session:
        query = select(Audit).where(Audit.actor_id == person.id).order_by(col(Audit.id))
        return list((await session.exec(query)).all())
