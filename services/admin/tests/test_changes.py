"""Changes: what the services are asked, in whose name, and what the audit says."""

import asyncio
from typing import Any

import httpx
import pytest

from common.db import Sessions
from common.identity import ACTOR_HEADER
from standins.gate import Gate
from standins.standin import Reply

from .conftest import Person, Services, audit_of
from .neighbours import DOCUMENT, JOB

GAME = {"slug": "wesnoth", "titles": {"en": "Wesnoth"}, "locales": ["en"], "patch": "1.18"}
TEXT = b"# Archers\n\nKeep them behind spears."
DOCUMENT_PATH = f"/internal/documents/{DOCUMENT['id']}"


async def upload(client: httpx.AsyncClient, person: Person, content: bytes = TEXT, **fields: Any) -> httpx.Response:
    files = {"file": ("길잡이.md", content, "text/markdown")}
    return await client.post(
        "/admin/documents", data={"game": "wesnoth", **fields}, files=files, headers=person.headers
    )


async def test_an_upload_goes_to_the_worker_in_the_admins_name(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    services.worker.answers("POST", "/internal/uploads", JOB, 202)
    response = await upload(client, admin, locale="en", title="Archers")
    assert (response.status_code, response.json()) == (202, JOB)
    (call,) = services.worker.calls
    assert call.body == TEXT.decode()
    assert call.headers[ACTOR_HEADER.lower()] == admin.token
    assert call.headers["content-length"] == str(len(TEXT))
    (entry,) = await audit_of(sessions, admin)
    assert (entry.action, entry.target, entry.outcome, entry.before) == ("document.upload", "wesnoth", "done", None)
    assert entry.after == {
        "filename": "길잡이.md",
        "size": len(TEXT),
        "game": "wesnoth",
        "locale": "en",
        "title": "Archers",
        "job_id": JOB["id"],
    }
    assert entry.request_id == response.headers["x-request-id"]


async def test_a_large_upload_arrives_whole(client: httpx.AsyncClient, admin: Person, services: Services) -> None:
    services.worker.answers("POST", "/internal/uploads", JOB, 202)
    content = b"word " * 580_000
    assert (await upload(client, admin, content)).status_code == 202
    assert services.worker.calls[0].body == content.decode()


@pytest.mark.parametrize(
    ("size", "fields", "status", "code"),
    [
        (3_000_001, {}, 413, "payload_too_large"),
        (3_200_000, {}, 413, "payload_too_large"),
        (10, {"colour": "red"}, 422, "invalid_request"),
        (10, {"locale": "fr"}, 422, "invalid_request"),
        (10, {"title": "x" * 100_000}, 400, "bad_request"),
        (10, {"title": "가" * 20_000}, 422, "invalid_request"),
        (10, {"title": "one\0two"}, 422, "invalid_request"),
        (10, {"game": "one\0two"}, 422, "invalid_request"),
    ],
)
async def test_a_form_that_is_not_right_never_reaches_the_worker(
    client: httpx.AsyncClient,
    admin: Person,
    services: Services,
    sessions: Sessions,
    size: int,
    fields: dict[str, str],
    status: int,
    code: str,
) -> None:
    response = await upload(client, admin, b"x" * size, **fields)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert services.worker.calls == []
    assert await audit_of(sessions, admin) == []


@pytest.mark.parametrize(
    ("charset", "filename", "status"),
    [
        ("utf-8", b"one\0two.md", 422),
        ("unicode_escape", rb"\ud800.md", 422),
        ("undefined", b"one.md", 400),  # a codec of Python's that fails by design
    ],
)
async def test_a_filename_that_cannot_be_written_down_is_refused(
    client: httpx.AsyncClient, admin: Person, services: Services, charset: str, filename: bytes, status: int
) -> None:
    field = b'--x\r\ncontent-disposition: form-data; name="game"\r\n\r\nwesnoth\r\n'
    file = b'--x\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\ntext\r\n--x--\r\n' % filename
    form = {"content-type": f"Multipart/Form-Data; boundary=x; charset={charset}"}
    response = await client.post("/admin/documents", content=field + file, headers={**admin.headers, **form})
    assert response.status_code == status
    assert services.worker.calls == []


async def test_a_body_that_is_no_form_is_refused(client: httpx.AsyncClient, admin: Person) -> None:
    plain = await client.post("/admin/documents", json={"game": "x"}, headers=admin.headers)
    assert plain.status_code == 415
    no_file = await client.post(
        "/admin/documents", files={"note": (None, "x")}, data={"game": "x"}, headers=admin.headers
    )
    assert (no_file.status_code, no_file.json()["errors"][0]["field"]) == (422, "body.file")


async def test_the_workers_refusal_is_the_reply_and_a_failed_change(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    services.worker.refuses("/internal/uploads", 415, "unsupported_document")
    response = await upload(client, admin)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_document")
    (entry,) = await audit_of(sessions, admin)
    assert entry.outcome == "failed"


async def test_a_deleted_document_is_kept_in_the_audit(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    services.rag.answers("GET", DOCUMENT_PATH, {**DOCUMENT, "pieces": []})
    services.rag.answers("DELETE", DOCUMENT_PATH, None, 204)
    response = await client.delete(f"/admin/documents/{DOCUMENT['id']}", headers=admin.headers)
    assert (response.status_code, response.content) == (204, b"")
    assert services.rag.calls[-1].method == "DELETE"
    assert services.rag.calls[-1].headers[ACTOR_HEADER.lower()] == admin.token
    (entry,) = await audit_of(sessions, admin)
    assert (entry.action, entry.target, entry.after) == ("document.delete", DOCUMENT["id"], None)
    assert entry.before is not None
    assert entry.before["title"] == "Archers"


async def test_deleting_what_is_not_there_is_a_404(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    services.rag.refuses(DOCUMENT_PATH, 404, "document_not_found")
    response = await client.delete(f"/admin/documents/{DOCUMENT['id']}", headers=admin.headers)
    assert response.status_code == 404
    assert await audit_of(sessions, admin) == []


async def test_a_changed_game_is_audited_with_before_and_after(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    old = {**GAME, "patch": "1.16"}
    services.coach.answers("GET", "/internal/games", {"games": [{**GAME, "slug": "chess"}, old]})
    services.coach.answers("PUT", "/internal/games/wesnoth", GAME)
    response = await client.put("/admin/games/wesnoth", json=GAME, headers=admin.headers)
    assert (response.status_code, response.json()) == (200, GAME)
    put = services.coach.calls[-1]
    assert (put.body, put.headers[ACTOR_HEADER.lower()]) == (GAME, admin.token)
    (entry,) = await audit_of(sessions, admin)
    assert (entry.action, entry.target, entry.before, entry.after) == ("game.put", "wesnoth", old, GAME)


async def test_what_coach_finds_wrong_with_a_game_is_shown_field_by_field(
    client: httpx.AsyncClient, admin: Person, services: Services
) -> None:
    wrong = [{"field": "body.titles", "type": "missing", "message": "Field required"}]
    services.coach.refuses("/internal/games/wesnoth", 422, "invalid_request", errors=wrong)
    response = await client.put("/admin/games/wesnoth", json={}, headers=admin.headers)
    assert (response.status_code, response.json()["errors"]) == (422, wrong)


async def test_another_service_is_told_in_which_language_to_refuse(
    client: httpx.AsyncClient, admin: Person, services: Services
) -> None:
    services.coach.refuses("/internal/games/wesnoth", 422, "invalid_request")
    headers = {**admin.headers, "Accept-Language": "en;q=0.1, ko-KR"}
    await client.put("/admin/games/wesnoth", json={}, headers=headers)
    assert services.coach.calls[-1].headers["accept-language"] == "ko"


@pytest.mark.parametrize("value", [r'"\u0000"', r'["\ud800"]', r'{"\udc00": 1}', "NaN", "[1e999]"])
async def test_settings_that_the_audit_could_not_keep_never_reach_coach(
    client: httpx.AsyncClient, admin: Person, services: Services, value: str
) -> None:
    headers = {**admin.headers, "content-type": "application/json"}
    response = await client.put("/admin/games/wesnoth", content=f'{{"patch": {value}}}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert services.coach.calls == []


async def test_a_change_is_written_down_before_it_happens(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    gate = Gate()
    services.coach.answers("PUT", "/internal/games/wesnoth", GAME)
    services.coach.script("/internal/games/wesnoth", Reply(hold=gate))
    changing = asyncio.create_task(client.put("/admin/games/wesnoth", json=GAME, headers=admin.headers))
    await services.coach.until(lambda calls: any(call.method == "PUT" for call in calls))
    assert [entry.outcome for entry in await audit_of(sessions, admin)] == ["started"]
    gate.open()
    assert (await changing).status_code == 200
    assert [entry.outcome for entry in await audit_of(sessions, admin)] == ["done"]
