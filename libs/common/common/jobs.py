"""Background jobs: their payloads, the transactional outbox that sends them, and the Celery app that runs them.

The one file of this library with domain words: a queue has no OpenAPI page, so its messages are declared here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, TypeVar
from uuid import UUID

from celery import Celery
from celery.app.task import Task
from opentelemetry import propagate, trace
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel, col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from common import logs
from common.db import Sessions, utc_now, uuid7

logger = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

Queue = Literal["interactive", "ingest", "maintenance"]
QUEUES: tuple[Queue, ...] = ("interactive", "ingest", "maintenance")

RELAY_BATCH = 100
RELAY_IDLE_SECONDS = 0.3
RELAY_OUTAGE_SECONDS = 2.0

relayed_jobs = Counter("jobs_relayed_total", "Jobs handed from an outbox to the broker", ["job"])
relay_failures = Counter("job_relay_failures_total", "Times that an outbox could not be read or its jobs not be sent")


class Job(BaseModel):
    """A job's payload: ids, not bodies. A handler re-reads what the ids name and may run twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    queue: ClassVar[Queue]


class IngestDocument(Job):
    """Parse, summarise if it is a transcript, and index what was uploaded under `job_id`."""

    name = "document.ingest"
    queue = "ingest"

    job_id: UUID


class OutboxRow(SQLModel):
    """Columns of a service's `outbox` table: `class Outbox(OutboxRow, WorkerTable, table=True)`."""

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    name: str
    queue: str
    payload: dict[str, Any] = Field(sa_type=JSONB)
    headers: dict[str, str] = Field(sa_type=JSONB)
    due_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True), index=True)


async def enqueue(session: AsyncSession, outbox: type[OutboxRow], job: Job, *, delay_seconds: float = 0) -> UUID:
    """Write `job` to the outbox in the caller's transaction: it is sent if, and only if, that commits."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    if known := logs.request_id.get():
        headers["request_id"] = known
    row = outbox(
        name=job.name,
        queue=job.queue,
        payload=job.model_dump(mode="json"),
        headers=headers,
        due_at=utc_now() + timedelta(seconds=delay_seconds),
    )
    session.add(row)
    await session.flush()
    return row.id


@asynccontextmanager
async def relaying(sessions: Sessions, outbox: type[OutboxRow], celery: Celery) -> AsyncIterator[None]:
    """Hand outbox rows to the broker while the block lasts; several relays share the work."""
    stop = asyncio.Event()
    relay = asyncio.create_task(_relay_until(stop, sessions, outbox, celery))
    try:
        yield
    finally:
        # Not cancelled: between sending and deleting that would send a batch twice.
        stop.set()
        await relay
        celery.close()


async def _relay_until(stop: asyncio.Event, sessions: Sessions, outbox: type[OutboxRow], celery: Celery) -> None:
    while not stop.is_set():
        try:
            sent = await _relay_batch(sessions, outbox, celery)
        except Exception as error:  # noqa: BLE001 - whatever it was, giving up would strand every later job
            relay_failures.inc()
            logger.warning("the outbox cannot be relayed", extra={"reason": type(error).__name__})
            pause = RELAY_OUTAGE_SECONDS
        else:
            pause = RELAY_IDLE_SECONDS if sent < RELAY_BATCH else 0
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


async def _relay_batch(sessions: Sessions, outbox: type[OutboxRow], celery: Celery) -> int:
    """A row leaves the table after the broker has it: a crash in between sends it again, under the same task id."""
    due = (
        select(outbox)
        .where(col(outbox.due_at) <= utc_now())
        .order_by(col(outbox.due_at))
        .limit(RELAY_BATCH)
        .with_for_update(skip_locked=True)
    )
    async with sessions.begin() as session:
        rows = (await session.exec(due)).all()
        if rows:
            # Celery's producer blocks.
            await asyncio.to_thread(_send, celery, rows)
            await session.exec(delete(outbox).where(col(outbox.id).in_([row.id for row in rows])))
        return len(rows)


def _send(celery: Celery, rows: Sequence[OutboxRow]) -> None:
    for row in rows:
        celery.send_task(
            row.name,
            kwargs={"payload": row.payload},
            task_id=str(row.id),
            queue=row.queue,
            headers={"context": row.headers},
            retry=False,  # by itself it would try for minutes, with the rows locked
        )
        relayed_jobs.labels(row.name).inc()


def create_celery(broker_url: str, *, visibility_timeout_seconds: int = 3600) -> Celery:
    """A Celery app on a Redis broker: JSON only, acknowledged late, one task fetched at a time, no result backend."""
    celery = Celery("dugout", broker=broker_url)
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_default_queue=QUEUES[0],
        task_create_missing_queues=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": visibility_timeout_seconds,
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
        },
    )
    return celery


AnyJob = TypeVar("AnyJob", bound=Job)


def handles(
    celery: Celery, job: type[AnyJob], **options: Any
) -> Callable[[Callable[[AnyJob], Coroutine[Any, Any, None]]], Any]:
    """Decorator: run an async function for each `job`, inside the trace of the request that enqueued it.

    `options` are Celery's task options (`time_limit`, `max_retries`, `autoretry_for` …).
    """

    def register(handler: Callable[[AnyJob], Coroutine[Any, Any, None]]) -> Any:
        def run(task: Task[Any, Any], payload: dict[str, Any]) -> None:
            context: dict[str, str] = (task.request.headers or {}).get("context") or {}
            logs.request_id.set(context.get("request_id"))
            with tracer.start_as_current_span(job.name, propagate.extract(context)):
                asyncio.run(handler(job.model_validate(payload)))

        # By default Celery would add the task to every other app of the process too.
        return celery.task(name=job.name, bind=True, shared=False, **options)(run)  # type: ignore[no-untyped-call]

    return register
