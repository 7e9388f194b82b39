"""From an upload through outbox, broker and a real Celery process to rag."""

import asyncio
import json
import os
import signal
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from sqlmodel import col, delete, update

from common.db import Sessions
from common.testing import Tokens, running
from standins.gate import Gate
from standins.slack import SlackStandin
from standins.standin import Reply
from worker.app import build
from worker.models import Job, Outbox
from worker.settings import Settings

from .conftest import Api
from .neighbours import DOCUMENTS, CoachStandin, RagStandin, problem
from .tracks import KOREAN, srt


@pytest.fixture(autouse=True)
async def empty_outbox(sessions: Sessions) -> None:
    """Nothing that an earlier test ordered reaches the process."""
    async with sessions.begin() as session:
        await session.exec(delete(Outbox))


def logged(log: Path, message: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == message]


async def test_an_uploaded_track_reaches_rag_in_one_trace(
    api: Api, rag: RagStandin, coach: CoachStandin, celery_log: Path
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-Request-ID": "upload-of-a-test", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    accepted = await api.upload("guide.srt", srt(KOREAN), locale="ko", title="궁수 강좌", headers=headers)
    assert accepted.status_code == 202
    job = await api.finished(accepted.json()["id"])
    assert (job["state"], job["progress"], job["attempts"]) == ("succeeded", 1, 1)
    assert {document["kind"] for document in rag.of(api.game)} == {"subtitle", "summary"}
    (done,) = logged(celery_log, "job succeeded")
    assert (done["request_id"], done["trace_id"]) == ("upload-of-a-test", trace)
    assert {call.headers["traceparent"].split("-")[1] for call in rag.calls + coach.calls} == {trace}


async def test_a_failing_rag_is_tried_again_until_it_takes_the_document(
    api: Api, rag: RagStandin, slack: SlackStandin, celery_log: Path
) -> None:
    rag.script(DOCUMENTS, problem(503, "unavailable"))
    rag.script(DOCUMENTS, problem(502, "upstream_failed"))
    accepted = await api.upload("guide.md", "# Archers\n\nKeep them behind spears.", locale="en")
    job = await api.finished(accepted.json()["id"])
    assert (job["state"], job["attempts"], job["error"]) == ("succeeded", 3, None)
    assert len(rag.of(api.game)) == 1
    assert slack.messages == []


async def test_a_job_that_fails_to_the_end_is_told_on_slack(
    api: Api, rag: RagStandin, slack: SlackStandin, celery_log: Path
) -> None:
    for _ in range(3):
        rag.script(DOCUMENTS, problem(503, "unavailable"))
    accepted = await api.upload("guide.md", "# Archers\n\nKeep them behind walls.", locale="en")
    job = await api.finished(accepted.json()["id"])
    assert (job["state"], job["attempts"], job["error"]["code"]) == ("failed", 3, "unavailable")
    await slack.until(lambda calls: calls and calls[0].ended_at)
    assert job["id"] in slack.messages[0]["text"]
    assert len(rag.calls) == 3


async def test_a_killed_process_loses_nothing(api: Api, rag: RagStandin, tasks: ModuleType, celery_log: Path) -> None:
    rag.script(DOCUMENTS, Reply(hold=Gate()))
    accepted = await api.upload("guide.md", "# Archers\n\nKeep them behind moats.", locale="en")
    await rag.until(lambda calls: calls)
    active = await asyncio.to_thread(tasks.celery.control.inspect(timeout=2).active)
    (process,) = {task["worker_pid"] for running in active.values() for task in running}
    os.kill(process, signal.SIGKILL)
    job = await api.finished(accepted.json()["id"])
    assert (job["state"], job["attempts"]) == ("succeeded", 2)
    assert len(rag.of(api.game)) == 1


async def test_a_killed_system_goes_on_with_its_jobs_when_it_starts_again(
    settings: Settings, tokens: Tokens, sessions: Sessions, rag: RagStandin, celery_log: Path
) -> None:
    async with running(build(settings)) as http:
        accepted = await Api(http, tokens).upload("guide.md", "# Archers\n\nKeep them behind fires.", locale="en")
        job_id = accepted.json()["id"]
        await Api(http, tokens).finished(job_id)
    # As it is after a kill: its message is lost to the broker for an hour.
    async with sessions.begin() as session:
        await session.exec(update(Job).where(col(Job.id) == UUID(job_id)).values(state="running"))
    async with running(build(settings)) as http:
        assert (await Api(http, tokens).finished(job_id))["attempts"] == 2


async def test_queues_show_who_consumes_them(api: Api, celery_log: Path) -> None:
    queues = {queue["name"]: queue for queue in (await api.get("/queues")).json()["queues"]}
    assert {name: queue["consumers"] for name, queue in queues.items()} == {
        "interactive": 1,
        "ingest": 1,
        "maintenance": 1,
    }
    assert queues["ingest"]["rate_per_minute"] > 0
    assert queues["ingest"]["depth"] == 0
    assert queues["ingest"]["eta_seconds"] == 0
