"""The job table: what ops see of a background job, who runs it, and how each attempt ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from common.db import Sessions, utc_now
from common.errors import AppError, NotFoundError, Text
from common.jobs import IngestDocument, enqueue
from worker.models import Job, JobError, JobList, JobPublic, JobState, Outbox

PAGE = 50
FINISHED = ("succeeded", "failed")


class JobNotFoundError(NotFoundError):
    code = "job_not_found"
    title = Text("There is no such job", "해당 작업이 없습니다")


class AttemptsExhaustedError(AppError):
    """The process died in every attempt, so that none could say why."""

    code = "attempts_exhausted"
    title = Text("The job did not survive any of its attempts", "작업이 모든 시도에서 비정상 종료되었습니다")


def public(job: Job, now: datetime) -> JobPublic:
    """A job as shown, with the time it will still take at its pace so far."""
    shown = {name: getattr(job, name) for name in JobPublic.model_fields if hasattr(job, name)}
    progress = 1.0 if job.state == "succeeded" else min(job.done / job.total, 1.0) if job.total else 0.0
    return JobPublic(**shown, progress=round(progress, 4), eta_seconds=_eta(job, now))


def _eta(job: Job, now: datetime) -> int | None:
    if job.state != "running" or not job.started_at or not job.total or not job.done:
        return None
    return round((now - job.started_at).total_seconds() * (job.total - job.done) / job.done)


async def read_job(session: AsyncSession, job_id: UUID) -> JobPublic:
    """One job; raises JobNotFoundError."""
    job = await session.get(Job, job_id)
    if job is None:
        raise JobNotFoundError
    return public(job, utc_now())


async def list_jobs(session: AsyncSession, state: JobState | None, before: UUID | None) -> JobList:
    """A page of jobs, newest first."""
    newest = select(Job).order_by(col(Job.id).desc()).limit(PAGE + 1)
    if state:
        newest = newest.where(Job.state == state)
    if before:
        newest = newest.where(col(Job.id) < before)
    jobs = (await session.exec(newest)).all()
    now = utc_now()
    return JobList(jobs=[public(job, now) for job in jobs[:PAGE]], next=jobs[PAGE - 1].id if len(jobs) > PAGE else None)


@asynccontextmanager
async def alone(engine: AsyncEngine, job_id: UUID) -> AsyncIterator[bool]:
    """Whether this process may run the job: nobody else can until the block ends, or the process dies.

    An advisory lock belongs to its connection, so it needs no clock, and no transaction stays open meanwhile.
    """
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        key = {"key": str(job_id)}
        locked = await connection.scalar(text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))"), key)
        try:
            yield bool(locked)
        finally:
            if locked:
                await connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), key)


async def start(sessions: Sessions, job_id: UUID) -> Job | None:
    """Count an attempt and mark the job as running; None when it has finished (or is gone)."""
    async with sessions.begin() as session:
        job = await session.get(Job, job_id, with_for_update=True)
        if job is None or job.state in FINISHED:
            return None
        job.state, job.started_at, job.done, job.total = "running", utc_now(), 0, None
        job.attempts += 1
        return job


async def report(sessions: Sessions, job_id: UUID, *, done: int, total: int) -> None:
    """Say how far a job is."""
    async with sessions.begin() as session:
        await _set(session, job_id, done=done, total=total)


async def succeed(sessions: Sessions, job_id: UUID, result: dict[str, Any]) -> None:
    """The job is done."""
    async with sessions.begin() as session:
        await _set(session, job_id, state="succeeded", result=result, error=None, finished_at=utc_now())


async def fail(sessions: Sessions, job_id: UUID, error: AppError) -> None:
    """The job will not be tried again."""
    async with sessions.begin() as session:
        await _set(session, job_id, state="failed", error=_shown(error), finished_at=utc_now())


async def put_back(sessions: Sessions, job_id: UUID, error: AppError, delay_seconds: float) -> None:
    """The attempt failed and another one follows; ordered through the outbox, a broker outage cannot lose it."""
    async with sessions.begin() as session:
        await _set(session, job_id, state="queued", error=_shown(error))
        await enqueue(session, Outbox, IngestDocument(job_id=job_id), delay_seconds=delay_seconds)


async def order_abandoned(sessions: Sessions) -> list[UUID]:
    """Order again the running jobs that nobody holds: their process was killed.

    The broker would hand them out again too, but only after its visibility timeout.
    """
    async with sessions.begin() as session:
        running = (await session.exec(select(Job.id).where(Job.state == "running"))).all()
        return [job_id for job_id in running if await _take_back(session, job_id)]


async def _take_back(session: AsyncSession, job_id: UUID) -> bool:
    locked = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))").bindparams(key=str(job_id))
    if not await session.scalar(locked):
        return False
    still = update(Job).where(col(Job.id) == job_id, col(Job.state) == "running")
    taken = await session.scalar(still.values(state="queued").returning(col(Job.id)))
    if taken is None:  # it has ended since we looked
        return False
    await enqueue(session, Outbox, IngestDocument(job_id=job_id))
    return True


async def look_again(sessions: Sessions, job_id: UUID, delay_seconds: float) -> None:
    """Somebody else runs the job; come back and see whether it got finished."""
    async with sessions.begin() as session:
        await enqueue(session, Outbox, IngestDocument(job_id=job_id), delay_seconds=delay_seconds)


def _shown(error: AppError) -> dict[str, Any]:
    return JobError(code=error.code, detail=error.detail.en).model_dump()


async def _set(session: AsyncSession, job_id: UUID, **values: Any) -> None:
    await session.exec(update(Job).where(col(Job.id) == job_id).values(**values))
