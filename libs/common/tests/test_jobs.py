"""The outbox: what commits is sent, what rolls back is not, and a broker outage only delays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from opentelemetry import trace
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel, delete, func, select

from common import logs
from common.db import Sessions, create_engine, schema_registry, session_factory
from common.jobs import IngestDocument, OutboxRow, create_celery, enqueue, handles, relaying
from common.telemetry import configure_tracing
from common.testing import Database


class JobsTable(SQLModel, registry=schema_registry("admin")):
    """Base of the tests' table."""


class Outbox(OutboxRow, JobsTable, table=True):
    __tablename__ = "outbox_of_the_tests"


@pytest.fixture(scope="module")
async def sessions(database: Database) -> AsyncIterator[Sessions]:
    """Sessions in a borrowed schema, whose own tests must not find our table."""
    owner = create_async_engine(database.url("admin_owner"))
    async with owner.begin() as connection:
        await connection.run_sync(JobsTable.metadata.create_all)
    engine = create_engine(database.url("admin"), application="tests", pool_size=5)
    yield session_factory(engine)
    await engine.dispose()
    async with owner.begin() as connection:
        await connection.run_sync(JobsTable.metadata.drop_all)
    await owner.dispose()


@pytest.fixture(autouse=True)
async def empty_outbox(sessions: Sessions, clean_redis: None) -> None:
    async with sessions.begin() as session:
        await session.exec(delete(Outbox))


@pytest.fixture
async def broker(redis_urls: dict[str, str]) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_urls["broker"]) as client:
        yield client


async def order(sessions: Sessions, **options: Any) -> tuple[UUID, UUID]:
    """Ids of a new job and its outbox row."""
    job_id = uuid4()
    async with sessions.begin() as session:
        return job_id, await enqueue(session, Outbox, IngestDocument(job_id=job_id), **options)


async def waiting_in_outbox(sessions: Sessions) -> int:
    async with sessions() as session:
        return (await session.exec(select(func.count()).select_from(Outbox))).one()


async def until(condition: Callable[[], Awaitable[Any]], within: float = 15) -> None:
    async with asyncio.timeout(within):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


class Recorder:
    """Runs what arrives at the broker in this process, as a worker would."""

    def __init__(self, celery: Celery) -> None:
        self.seen: list[tuple[UUID, str | None, str]] = []
        handles(celery, IngestDocument)(self._handle)
        self._celery = celery

    async def _handle(self, job: IngestDocument) -> None:
        trace_id = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
        self.seen.append((job.job_id, logs.request_id.get(), trace_id))

    def run_one(self) -> str:
        """Take one task off the queue and run it; gives its task id."""
        with self._celery.connection_for_read() as connection:
            message = connection.SimpleQueue("ingest").get(timeout=5)
            message.ack()
        args, kwargs, _ = message.payload
        task = self._celery.tasks[message.headers["task"]]
        task.apply(
            args, kwargs, task_id=message.headers["id"], headers={"context": message.headers["context"]}, throw=True
        )
        task_id: str = message.headers["id"]
        return task_id


@asynccontextmanager
async def relay_to(url: str, sessions: Sessions) -> AsyncIterator[Celery]:
    celery = create_celery(url)
    async with relaying(sessions, Outbox, celery):
        yield celery


async def test_a_committed_job_is_sent_once_with_its_trace_and_request_id(
    sessions: Sessions, redis_urls: dict[str, str], broker: Redis
) -> None:
    configure_tracing("tests", None)
    with trace.get_tracer("tests").start_as_current_span("request") as span:
        context = logs.request_id.set("request-of-a-test")
        job_id, row_id = await order(sessions)
        logs.request_id.reset(context)
    celery = create_celery(redis_urls["broker"])
    recorder = Recorder(celery)
    async with relaying(sessions, Outbox, celery):
        await until(partial(_outbox_is_empty, sessions))
        assert await asyncio.to_thread(recorder.run_one) == str(row_id)
    assert recorder.seen == [(job_id, "request-of-a-test", trace.format_trace_id(span.get_span_context().trace_id))]
    assert await broker.llen("ingest") == 0


async def test_a_job_whose_transaction_rolls_back_is_never_sent(
    sessions: Sessions, redis_urls: dict[str, str], broker: Redis
) -> None:
    async with sessions() as session:
        await enqueue(session, Outbox, IngestDocument(job_id=uuid4()))
        await session.rollback()
    async with relay_to(redis_urls["broker"], sessions):
        await order(sessions)  # sent after whatever was waiting
        await until(lambda: broker.llen("ingest"))
    assert await broker.llen("ingest") == 1


async def test_a_delayed_job_waits_in_the_outbox(sessions: Sessions, redis_urls: dict[str, str], broker: Redis) -> None:
    _, delayed = await order(sessions, delay_seconds=600)
    await order(sessions)
    async with relay_to(redis_urls["broker"], sessions):
        await until(lambda: broker.llen("ingest"))
    async with sessions() as session:
        assert (await session.exec(select(Outbox.id))).all() == [delayed]


async def test_jobs_committed_while_the_broker_is_away_are_sent_when_it_is_back(
    sessions: Sessions, redis_urls: dict[str, str], broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.jobs.RELAY_OUTAGE_SECONDS", 0.05)
    target = redis_urls["broker"]

    def failures() -> float:
        return REGISTRY.get_sample_value("job_relay_failures_total") or 0

    async def failed_again(before: float) -> bool:
        return failures() > before

    async with Door(target) as door, relay_to(door.url, sessions):
        for outage in range(2):  # the second one meets a relay that was connected
            before = failures()
            await door.close()
            await order(sessions)
            await until(partial(failed_again, before))
            assert await waiting_in_outbox(sessions) == 1
            await door.open()
            await until(partial(_outbox_is_empty, sessions))
            assert await broker.llen("ingest") == outage + 1


async def _outbox_is_empty(sessions: Sessions) -> bool:
    return await waiting_in_outbox(sessions) == 0


async def test_two_relays_share_an_outbox_without_sending_twice(
    sessions: Sessions, redis_urls: dict[str, str], broker: Redis
) -> None:
    for _ in range(30):
        await order(sessions)
    async with relay_to(redis_urls["broker"], sessions), relay_to(redis_urls["broker"], sessions):
        await until(partial(_outbox_is_empty, sessions))
    assert await broker.llen("ingest") == 30


class Door:
    """A TCP forwarder to the broker that can be shut, cutting its connections, and opened again on the same port."""

    def __init__(self, url: str) -> None:
        before, _, self._port = url.removesuffix("/0").rpartition(":")
        self._before = before
        self._listening = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"{self._before}:{self._listening}/0"

    async def __aenter__(self) -> "Door":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._listening)
        self._listening = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._server = None

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", int(self._port))
        self._writers += [writer, to_writer]
        await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
