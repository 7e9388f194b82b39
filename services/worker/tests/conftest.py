"""The worker's API on a real Postgres and Redis, its neighbours as stand-ins, and its Celery process."""

import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from common.db import Sessions, create_engine, session_factory
from common.identity import ACTOR_HEADER
from common.testing import Database, Tokens, running
from standins.slack import SlackStandin, run_slack
from standins.standin import run
from worker.app import build
from worker.settings import Settings

from .neighbours import CoachStandin, RagStandin

CLIENT_SECRET = "worker-secret-of-the-tests"
FINISHED = ("succeeded", "failed")


@pytest.fixture(scope="session")
def neighbours() -> Iterator[tuple[RagStandin, CoachStandin, SlackStandin]]:
    with run(RagStandin()) as rag, run(CoachStandin()) as coach, run_slack() as slack:
        yield rag, coach, slack


@pytest.fixture
def rag(neighbours: tuple[RagStandin, CoachStandin, SlackStandin]) -> RagStandin:
    neighbours[0].clear()
    return neighbours[0]


@pytest.fixture
def coach(neighbours: tuple[RagStandin, CoachStandin, SlackStandin]) -> CoachStandin:
    neighbours[1].clear()
    return neighbours[1]


@pytest.fixture
def slack(neighbours: tuple[RagStandin, CoachStandin, SlackStandin]) -> SlackStandin:
    neighbours[2].clear()
    return neighbours[2]


@pytest.fixture(scope="session")
def environment(
    database: Database,
    redis_urls: dict[str, str],
    auth_url: str,
    neighbours: tuple[RagStandin, CoachStandin, SlackStandin],
) -> dict[str, str]:
    """What the worker's processes find in their environment."""
    rag, coach, slack = neighbours
    return {
        "DUGOUT_ENV": "development",
        "DUGOUT_AUTH_URL": auth_url,
        "DUGOUT_RAG_URL": rag.url,
        "DUGOUT_COACH_URL": coach.url,
        "DUGOUT_SLACK_WEBHOOK_URL": slack.webhook_url,
        "DUGOUT_CLIENT_SECRET": CLIENT_SECRET,
        "DUGOUT_DATABASE_URL": database.migrated("worker"),
        "DUGOUT_BROKER_REDIS_URL": redis_urls["broker"],
        "DUGOUT_JOB_ATTEMPTS": "3",
        "DUGOUT_RETRY_FIRST_SECONDS": "0.05",
        "DUGOUT_UPLOAD_MAX_BYTES": "200000",
    }


@contextmanager
def started_with(environment: dict[str, str]) -> Iterator[None]:
    """The process's environment, for no longer than it is read: other services' tests come before and after."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def settings(environment: dict[str, str]) -> Settings:
    with started_with(environment):
        return Settings()


@pytest.fixture(scope="session")
def tasks(environment: dict[str, str]) -> ModuleType:
    """The module of the Celery process, in this one."""
    with started_with(environment):
        return importlib.import_module("worker.tasks")


@pytest.fixture
async def sessions(settings: Settings) -> AsyncIterator[Sessions]:
    engine = create_engine(settings.database_url.get_secret_value(), application="tests", pool_size=5)
    yield session_factory(engine)
    await engine.dispose()


class Api:
    """The worker's API, as the admin service uses it."""

    def __init__(self, http: httpx.AsyncClient, tokens: Tokens) -> None:
        self.http = http
        # Every test has a game of its own, so that it never meets another's uploads.
        self.game = f"game-{uuid4().hex[:12]}"
        self.headers = {
            **tokens.service_headers("admin", "worker", "worker:ops"),
            ACTOR_HEADER: tokens.player(role="admin"),
        }

    async def upload(self, filename: str, content: str | bytes, **said: Any) -> httpx.Response:
        """POST /internal/uploads."""
        headers = self.headers | said.pop("headers", {})
        params = {"filename": filename, "game": self.game, **said}
        return await self.http.post("/internal/uploads", params=params, content=content, headers=headers)

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """GET as the admin service."""
        return await self.http.get(f"/internal{path}", params=params, headers=self.headers)

    async def job(self, job_id: str) -> dict[str, Any]:
        """One job."""
        shown: dict[str, Any] = (await self.get(f"/jobs/{job_id}")).json()
        return shown

    async def finished(self, job_id: str, within: float = 30) -> dict[str, Any]:
        """The job, once it has ended."""
        async with asyncio.timeout(within):
            while True:
                job = await self.job(job_id)
                if job["state"] in FINISHED:
                    return job
                await asyncio.sleep(0.05)


@pytest.fixture
async def api(settings: Settings, tokens: Tokens) -> AsyncIterator[Api]:
    async with running(build(settings)) as http:
        yield Api(http, tokens)


@contextmanager
def celery_process(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The Celery process of the worker, started as in production; it is ready when it says so."""
    command = (sys.executable, "-m", "celery", "-A", "worker.tasks:celery", "worker", "-c", "2")
    queues = ("-Q", "interactive,ingest,maintenance", "-n", f"{uuid4().hex}@test")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *queues], env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(lambda: b" ready." in log.read_bytes() or process.poll() is not None, within=60)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _wait(condition: Callable[[], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def celery_log(
    environment: dict[str, str], redis_urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The log of a running Celery process, which starts with nothing left over to do."""
    with Redis.from_url(redis_urls["broker"]) as broker:
        broker.flushall()
    log = tmp_path_factory.mktemp("celery") / "log"
    with celery_process(environment, log):
        yield log
