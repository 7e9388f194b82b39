"""What may be uploaded, by whom, and what is answered."""

import json
from uuid import uuid4

import httpx
import pytest
from sqlmodel import func, select

from common.db import Sessions
from common.identity import ACTOR_HEADER
from common.testing import Tokens
from worker import jobs
from worker.models import Upload

from .conftest import Api
from .tracks import KOREAN, srt

TEXT = "# Archers\n\nKeep them behind spears."


async def test_an_upload_is_answered_with_its_job(api: Api) -> None:
    response = await api.upload("guide.md", TEXT, locale="en")
    assert response.status_code == 202
    job = response.json()
    assert job == await api.job(job["id"]) | {"state": "queued"}
    assert {name: job[name] for name in ("kind", "state", "progress", "done", "total", "attempts")} == {
        "kind": "document.ingest",
        "state": "queued",
        "progress": 0,
        "done": 0,
        "total": None,
        "attempts": 0,
    }


@pytest.mark.parametrize(
    ("filename", "content", "status", "code"),
    [
        ("guide.md", b"", 422, "empty_document"),
        ("guide.md", b"\xff\xff\xff", 422, "not_text"),
        ("guide.pdf", b"%PDF", 415, "unsupported_document"),
        ("guide.srt", b"no cues here", 422, "not_subtitles"),
        ("guide.jsonl", b'{"doc_id": 1}', 422, "bad_row"),
        ("guide.txt", b"word " * 50_000, 413, "payload_too_large"),
        ("../guide.md", b"text", 422, "invalid_request"),
    ],
)
async def test_a_file_that_cannot_be_ingested_is_refused_at_once(
    api: Api, sessions: Sessions, filename: str, content: bytes, status: int, code: str
) -> None:
    response = await api.upload(filename, content, locale="en")
    assert (response.status_code, response.json()["code"]) == (status, code)
    async with sessions() as session:
        stored = await session.exec(select(func.count()).where(Upload.game == api.game))
        assert stored.one() == 0


async def test_only_jsonl_may_leave_its_language_to_its_rows(api: Api) -> None:
    row = {
        "doc_id": "a",
        "game": api.game,
        "locale": "ko",
        "title": "궁수",
        "text": "활",
        "source": "s",
        "licence": "l",
    }
    assert (await api.upload("documents.jsonl", json.dumps(row))).status_code == 202
    refused = await api.upload("guide.md", TEXT)
    assert (refused.status_code, refused.json()["code"]) == (422, "locale_missing")


async def test_the_same_file_again_is_the_same_job(api: Api) -> None:
    first = await api.upload("guide.srt", srt(KOREAN), locale="ko")
    again = await api.upload("guide.srt", srt(KOREAN), locale="ko")
    assert again.json()["id"] == first.json()["id"]
    described_otherwise = await api.upload("guide.srt", srt(KOREAN), locale="ko", patch="2.0")
    assert described_otherwise.json()["id"] != first.json()["id"]


async def test_a_failed_or_explicitly_repeated_upload_gets_a_new_job(api: Api, sessions: Sessions) -> None:
    first = (await api.upload("guide.md", TEXT, locale="en")).json()
    repeated = (await api.upload("guide.md", TEXT, locale="en", again=True)).json()
    assert repeated["id"] != first["id"]
    await jobs.fail(sessions, repeated["id"], jobs.AttemptsExhaustedError())
    after_failure = (await api.upload("guide.md", TEXT, locale="en")).json()
    assert after_failure["id"] not in (first["id"], repeated["id"])
    assert (await api.job(repeated["id"]))["error"]["code"] == "attempts_exhausted"


async def test_jobs_are_listed_by_state_newest_first(api: Api) -> None:
    ids = [(await api.upload(f"{number}.md", TEXT, locale="en")).json()["id"] for number in range(3)]
    queued = (await api.get("/jobs", state="queued")).json()["jobs"]
    assert [job["id"] for job in queued if job["id"] in ids] == ids[::-1]
    older = (await api.get("/jobs", before=ids[1])).json()["jobs"]
    assert older[0]["id"] == ids[0]


async def test_an_unknown_job_is_a_404(api: Api) -> None:
    response = await api.get(f"/jobs/{uuid4()}")
    assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("path", ["/uploads", "/jobs", f"/jobs/{uuid4()}", "/queues"])
async def test_routes_are_for_services_with_the_scope_only(api: Api, tokens: Tokens, path: str) -> None:
    async def status(headers: dict[str, str]) -> int:
        method = "POST" if path == "/uploads" else "GET"
        response: httpx.Response = await api.http.request(method, f"/internal{path}", headers=headers)
        return response.status_code

    assert await status({}) == 401
    assert await status(tokens.headers(role="admin")) == 403
    assert await status(tokens.service_headers("coach", "worker", "rag:answer")) == 403
    assert await status(tokens.service_headers("admin", "rag", "worker:ops")) == 401


async def test_an_upload_names_the_admin_it_is_made_for(api: Api, tokens: Tokens, sessions: Sessions) -> None:
    refused = await api.upload("guide.md", TEXT, locale="en", headers={ACTOR_HEADER: tokens.player(role="viewer")})
    assert refused.status_code == 403
    nobody = await api.upload("guide.md", TEXT, locale="en", headers={ACTOR_HEADER: ""})
    assert nobody.status_code == 401
    admin = uuid4()
    await api.upload("guide.md", TEXT, locale="en", headers={ACTOR_HEADER: tokens.player(admin, role="admin")})
    async with sessions() as session:
        assert (await session.exec(select(Upload.uploaded_by).where(Upload.game == api.game))).one() == admin
