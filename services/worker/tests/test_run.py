"""How one attempt at a job ends: done, put back, given up, or left to somebody else."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from types import ModuleType
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlmodel import col, select, update

from common.db import Sessions, utc_now
from standins.gate import Gate
from standins.slack import SlackStandin
from standins.standin import Reply
from worker import jobs
from worker.models import Job, Outbox
from worker.run import BUSY_SECONDS, OUTAGES, RetryPolicy, Runner

from .conftest import Api
from .neighbours import DOCUMENTS, RagStandin, problem


@pytest.fixture
async def runner(tasks: ModuleType) -> AsyncIterator[Runner]:
    async with tasks.open_runner() as runner:
        yield runner


@pytest.fixture
async def job_id(api: Api) -> UUID:
    """A job that indexes one document."""
    accepted = await api.upload("guide.md", "# Archers\n\nKeep them behind spears.", locale="en")
    return UUID(accepted.json()["id"])


async def test_a_finished_job_is_not_run_again(runner: Runner, job_id: UUID, rag: RagStandin, api: Api) -> None:
    await runner.run(job_id)
    await runner.run(job_id)
    assert (await api.job(str(job_id)))["attempts"] == 1
    assert len(rag.calls) == 1


async def test_two_processes_never_run_one_job_at_once(
    runner: Runner, tasks: ModuleType, job_id: UUID, rag: RagStandin, sessions: Sessions
) -> None:
    async with tasks.open_runner() as twin, jobs.alone(twin.engine, job_id) as mine:
        assert mine
        await runner.run(job_id)
    assert rag.calls == []
    async with sessions() as session:
        later = utc_now()
        waiting = (await session.exec(select(Outbox).where(col(Outbox.due_at) > later))).all()
    # The duplicate comes back: should its twin die, this is what finishes the job.
    (duplicate,) = [row for row in waiting if row.payload == {"job_id": str(job_id)}]
    assert BUSY_SECONDS - 10 < (duplicate.due_at - later).total_seconds() <= BUSY_SECONDS


async def test_a_lock_ends_with_the_connection_that_holds_it(runner: Runner, job_id: UUID) -> None:
    async with runner.engine.connect() as doomed:
        connection = await doomed.get_raw_connection()
        await connection.driver_connection.execute(  # type: ignore[union-attr]
            "SELECT pg_advisory_lock(hashtextextended($1, 0))", str(job_id)
        )
        async with jobs.alone(runner.engine, job_id) as mine:
            assert not mine
        await connection.driver_connection.close()  # type: ignore[union-attr]
        async with jobs.alone(runner.engine, job_id) as mine:
            assert mine


async def test_a_job_whose_process_was_killed_is_ordered_again_and_no_other(
    runner: Runner, job_id: UUID, sessions: Sessions, api: Api
) -> None:
    async with jobs.alone(runner.engine, job_id):
        await jobs.start(sessions, job_id)
        assert job_id not in await jobs.order_abandoned(sessions)
    # Gone without a word: the row says that it runs, and nobody holds its lock.
    assert job_id in await jobs.order_abandoned(sessions)
    assert job_id not in await jobs.order_abandoned(sessions)
    await runner.run(job_id)
    assert (await api.job(str(job_id)))["state"] == "succeeded"
    assert job_id not in await jobs.order_abandoned(sessions)


async def test_what_cannot_succeed_is_not_tried_again(
    runner: Runner, job_id: UUID, rag: RagStandin, slack: SlackStandin, api: Api
) -> None:
    rag.script(DOCUMENTS, problem(422, "invalid_request"))
    await runner.run(job_id)
    job = await api.job(str(job_id))
    assert (job["state"], job["attempts"], job["error"]["code"]) == ("failed", 1, "invalid_request")
    assert len(slack.messages) == 1


async def test_a_job_waits_its_turn_with_the_reason_shown(
    runner: Runner, job_id: UUID, rag: RagStandin, api: Api
) -> None:
    rag.script(DOCUMENTS, problem(429, "rate_limited"))
    await runner.run(job_id)
    job = await api.job(str(job_id))
    assert (job["state"], job["attempts"], job["error"]["code"]) == ("queued", 1, "rate_limited")


async def test_a_job_that_takes_too_long_is_stopped(runner: Runner, job_id: UUID, rag: RagStandin, api: Api) -> None:
    rag.script(DOCUMENTS, Reply(hold=Gate()))
    await dataclasses.replace(runner, seconds=0.2, policy=RetryPolicy(1, 1, 1)).run(job_id)
    job = await api.job(str(job_id))
    assert (job["state"], job["error"]["code"]) == ("failed", "job_timeout")


async def test_a_bug_fails_the_job_without_its_inner_words(
    runner: Runner, job_id: UUID, api: Api, sessions: Sessions
) -> None:
    async with sessions.begin() as session:
        await session.exec(update(Job).where(col(Job.id) == job_id).values(upload_id=None))
    await runner.run(job_id)
    job = await api.job(str(job_id))
    assert (job["state"], job["error"]["code"]) == ("failed", "internal_error")
    assert "Upload" not in job["error"]["detail"]


async def test_a_lost_database_connection_is_no_reason_to_give_up(
    runner: Runner, job_id: UUID, rag: RagStandin, api: Api, sessions: Sessions
) -> None:
    gate = Gate()
    rag.script(DOCUMENTS, Reply(hold=gate))
    running = asyncio.create_task(runner.run(job_id))
    await rag.until(lambda calls: calls)
    async with sessions.begin() as session:
        connection = await session.connection()
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'worker-task'"
        await connection.execute(text(kill))
    gate.open()
    # The lock went with its connection, so this run may not be the only one: Celery shall deliver the job again.
    with pytest.raises(OUTAGES):
        await running
    await runner.run(job_id)
    assert (await api.job(str(job_id)))["state"] == "succeeded"


async def test_a_job_that_kills_its_process_is_given_up(
    runner: Runner, job_id: UUID, api: Api, rag: RagStandin, sessions: Sessions
) -> None:
    for _ in range(runner.policy.attempts):  # each attempt starts and never says how it ended
        await jobs.start(sessions, job_id)
    await runner.run(job_id)
    job = await api.job(str(job_id))
    assert (job["state"], job["error"]["code"]) == ("failed", "attempts_exhausted")
    assert rag.calls == []


async def test_a_failing_slack_is_counted_and_harms_nothing(
    runner: Runner, job_id: UUID, rag: RagStandin, slack: SlackStandin, api: Api
) -> None:
    def failed() -> float:
        return REGISTRY.get_sample_value("alerts_total", {"outcome": "failed"}) or 0

    before = failed()
    rag.script(DOCUMENTS, problem(422, "invalid_request"))
    slack.fail(500)
    await runner.run(job_id)
    assert failed() == before + 1
    assert (await api.job(str(job_id)))["state"] == "failed"


def test_waits_double_up_to_a_limit_and_are_spread() -> None:
    policy = RetryPolicy(attempts=9, first_seconds=4, longest_seconds=30)
    for attempt, longest in ((1, 4), (2, 8), (3, 16), (4, 30), (9, 30)):
        waits = [policy.delay(attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
