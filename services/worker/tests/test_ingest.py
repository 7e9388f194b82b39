"""What rag is given of an upload, and what a transcript's summary is made of."""

import json
import re
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import select

from common.db import Sessions
from worker.index import BATCH_DOCUMENTS
from worker.models import Summary, Transcript, Upload
from worker.prompts import WindowNotes
from worker.run import Runner
from worker.subtitles import Line

from .conftest import Api
from .neighbours import COMPLETIONS, CoachStandin, RagStandin, problem
from .tracks import ENGLISH, KOREAN, srt

REPLY = {
    "title": "How to meet archers",
    "summary": "Fight archers hand to hand.",
    "moments": [{"at": "5:10", "text": "Night makes orcs strong."}, {"at": "0:09", "text": "Fight hand to hand."}],
}


@pytest.fixture
async def runner(tasks: ModuleType) -> AsyncIterator[Runner]:
    async with tasks.open_runner() as runner:
        yield runner


@pytest.fixture(autouse=True)
def quiet_neighbours(rag: RagStandin, coach: CoachStandin) -> None:
    """Nothing asked and nothing scripted yet."""


async def ingested(api: Api, runner: Runner, filename: str, content: str, **said: Any) -> dict[str, Any]:
    accepted = await api.upload(filename, content, **said)
    assert accepted.status_code == 202, accepted.text
    await runner.run(UUID(accepted.json()["id"]))
    return await api.job(accepted.json()["id"])


async def summaries(sessions: Sessions, game: str) -> dict[str, Summary]:
    query = select(Summary).join(Transcript).join(Upload).where(Upload.game == game)
    async with sessions() as session:
        return {summary.locale: summary for summary in await session.exec(query)}


def model(asked: dict[str, Any]) -> str:
    """Notes for a window; for the whole a summary in the fence that models like."""
    return "[0:09] notes" if "Transcript:" in asked["prompt"] else f"```json\n{json.dumps(REPLY)}\n```"


async def test_rows_travel_in_batches_and_the_job_says_what_became_of_them(
    api: Api, runner: Runner, rag: RagStandin
) -> None:
    row = {"game": api.game, "locale": "ko", "title": "궁수", "source": "설명서", "licence": "CC0-1.0"}
    rows = [{**row, "doc_id": f"unit:{i}", "text": f"궁수 {i}은 활을 쏜다."} for i in range(BATCH_DOCUMENTS + 6)]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    job = await ingested(api, runner, "documents.jsonl", content, patch="1.16")
    assert (job["done"], job["total"], job["eta_seconds"]) == (70, 70, None)
    assert job["result"] == {"documents": 70, "chunks": 70, "created": 70}
    assert [len(call.body["documents"]) for call in rag.calls] == [BATCH_DOCUMENTS, 6]
    document = rag.stored[api.game, "unit:0"]
    assert document["chunks"] == [{"text": "궁수 0은 활을 쏜다.", "start_ms": None, "end_ms": None}]
    expected = {"locale": "ko", "kind": "jsonl", "patch": "1.16", "title": "궁수", "source": "설명서", "url": None}
    assert {name: document[name] for name in expected} == expected


async def test_a_changed_file_replaces_its_document_and_the_same_one_does_not(
    api: Api, runner: Runner, rag: RagStandin
) -> None:
    first = await ingested(api, runner, "guide.md", "# Archers\n\nWeak.", locale="en")
    again = await ingested(api, runner, "guide.md", "# Archers\n\nWeak.", locale="en", again=True)
    changed = await ingested(api, runner, "guide.md", "# Archers\n\nStrong.", locale="en")
    states = [set(job["result"]) - {"documents", "chunks"} for job in (first, again, changed)]
    assert states == [{"created"}, {"unchanged"}, {"replaced"}]
    (document,) = rag.of(api.game)
    assert (document["title"], document["source"], document["licence"]) == ("Archers", "guide.md", "unspecified")


async def test_a_track_without_a_model_is_quoted_with_times(
    api: Api, runner: Runner, rag: RagStandin, sessions: Sessions
) -> None:
    url = "https://video.test/watch?v=1&t=5"
    job = await ingested(api, runner, "guide.srt", srt(ENGLISH), locale="en", title="Archers", url=url)
    assert job["result"]["summary"] == "extracted"
    transcript, summary = rag.of(api.game)
    assert (transcript["kind"], summary["kind"]) == ("subtitle", "summary")
    assert transcript["chunks"][0]["start_ms"] == 1_000
    assert transcript["chunks"][-1]["end_ms"] == 319_000
    assert (summary["title"], summary["url"]) == ("Archers (extracts)", url)
    words = " ".join(text for _, _, text in ENGLISH).replace("\n", " ")
    assert all(chunk["text"] in words for chunk in summary["chunks"])
    # One extract for each window of five minutes.
    assert [chunk["start_ms"] // 300_000 for chunk in summary["chunks"]] == [0, 1]
    (stored,) = (await summaries(sessions, api.game)).values()
    assert stored.moments[1]["url"] == f"https://video.test/watch?v=1&t={stored.moments[1]['start_ms'] // 1000}"


async def test_a_korean_track_is_quoted_in_korean(api: Api, runner: Runner, rag: RagStandin) -> None:
    await ingested(api, runner, "guide.srt", srt(KOREAN), locale="ko", title="궁수 강좌")
    summary = rag.of(api.game)[1]
    assert (summary["locale"], summary["title"]) == ("ko", "궁수 강좌 (발췌)")
    assert summary["chunks"][1]["text"] == "그래서 궁수는 창병 뒤에 세워 두는 것이 좋습니다."


async def test_a_model_sums_up_window_by_window_then_in_each_language(
    api: Api, runner: Runner, rag: RagStandin, coach: CoachStandin, sessions: Sessions
) -> None:
    coach.answer = model
    job = await ingested(api, runner, "guide.srt", srt(ENGLISH), locale="en", title="Archers")
    assert job["result"]["summary"] == "model"
    asked = [call.body for call in coach.calls]
    assert [bool(re.search("Transcript:", body["prompt"])) for body in asked] == [True, True, False, False]
    assert "[0:09] Attack archers with units" in asked[0]["prompt"]
    assert "Write in Korean" in asked[2]["system"]
    assert {body["game"] for body in asked} == {api.game}
    stored = await summaries(sessions, api.game)
    assert stored.keys() == {"ko", "en"}
    assert (stored["en"].method, stored["en"].model, stored["en"].title) == ("model", "test-model", REPLY["title"])
    english = next(document for document in rag.of(api.game) if document["key"].startswith("summary:en"))
    assert english["chunks"] == [
        {"text": "Fight archers hand to hand.", "start_ms": None, "end_ms": None},
        {"text": "Fight hand to hand.", "start_ms": 9_000, "end_ms": None},
        {"text": "Night makes orcs strong.", "start_ms": 310_000, "end_ms": None},
    ]


async def test_a_moment_the_track_does_not_have_is_dropped(
    api: Api, runner: Runner, coach: CoachStandin, sessions: Sessions
) -> None:
    invented = json.dumps({**REPLY, "moments": [{"at": "59:00", "text": "Nobody said this."}, *REPLY["moments"]]})
    coach.answer = lambda asked: invented
    await ingested(api, runner, "guide.srt", srt(ENGLISH), locale="en", title="Archers")
    stored = await summaries(sessions, api.game)
    assert [moment["start_ms"] for moment in stored["en"].moments] == [9_000, 310_000]


async def test_an_unreadable_summary_gives_way_to_extracts(
    api: Api, runner: Runner, coach: CoachStandin, sessions: Sessions
) -> None:
    coach.answer = lambda asked: "I am sorry, I cannot do that."
    job = await ingested(api, runner, "guide.srt", srt(ENGLISH), locale="en", title="Archers")
    assert (job["state"], job["result"]["summary"]) == ("succeeded", "extracted")
    assert {summary.method for summary in (await summaries(sessions, api.game)).values()} == {"extracted"}


async def test_a_second_attempt_pays_for_nothing_twice(
    api: Api, runner: Runner, rag: RagStandin, coach: CoachStandin, sessions: Sessions
) -> None:
    coach.answer = model
    accepted = await api.upload("guide.srt", srt(ENGLISH), locale="en", title="Archers")
    job_id = UUID(accepted.json()["id"])
    coach.script(COMPLETIONS, problem(504, "ai_timeout"))
    await runner.run(job_id)
    shown = await api.job(str(job_id))
    assert (shown["state"], shown["error"]["code"]) == ("queued", "upstream_failed")
    assert (shown["done"], shown["total"]) == (2, 5)
    await runner.run(job_id)
    assert (await api.job(str(job_id)))["state"] == "succeeded"
    # Two windows and two languages; the words were indexed once and then found unchanged.
    assert len(coach.completions) == 4
    assert len(rag.of(api.game)) == 3
    async with sessions() as session:
        query = select(Transcript).join(Upload).where(Upload.game == api.game)
        assert len((await session.exec(query)).all()) == 1


def test_template_marks_in_a_track_are_words_like_any_other() -> None:
    prompt = WindowNotes(title="{{ 1 + 1 }}", locale="en", lines=[Line(0, 1, "{% raise %}")])
    assert "{{ 1 + 1 }}" in prompt.render("user")
    assert "[0:00] {% raise %}" in prompt.render("user")
