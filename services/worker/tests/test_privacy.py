"""Tests of what the worker gives out of an uploader, and what is left after erasing one."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from common.db import Sessions
from common.identity import ACTOR_HEADER
from common.testing import Tokens
from worker import privacy

from .conftest import Api

PRIVACY = ("auth", "worker", "worker:privacy")


async def upload(api: Api, tokens: Tokens, uploader: UUID, content: str) -> None:
    headers = {ACTOR_HEADER: tokens.player(uploader, role="admin")}
    reply = await api.upload("guide.md", content, locale="en", title="A guide", headers=headers)
    assert reply.status_code == 202, reply.text


async def export(api: Api, tokens: Tokens, user_id: UUID) -> list[dict[str, Any]]:
    records, cursor = [], None
    while True:
        params = {"cursor": cursor} if cursor else {}
        path, headers = f"/internal/users/{user_id}/export", tokens.service_headers(*PRIVACY)
        page = (await api.http.get(path, params=params, headers=headers)).json()
        records += page["records"]
        if not (cursor := page["next_cursor"]):
            return records


async def rows_with(sessions: Sessions, word: str) -> list[str]:
    """Rows of any table in which a word stands, whatever the column."""
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'worker'"
    found = []
    async with sessions() as session:
        for (table,) in await session.exec(text(tables)):  # type: ignore[call-overload]
            rows = await session.exec(text(f"SELECT t::text FROM worker.{table} t"))  # type: ignore[call-overload]  # noqa: S608
            found += [f"{table}: {row}" for (row,) in rows if word in row]
    return found


async def test_uploads_are_exported_page_by_page_without_their_content(
    api: Api, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "PAGE", 2)
    uploader = uuid4()
    for number in range(3):
        await upload(api, tokens, uploader, f"# Guide {number}")
    await upload(api, tokens, uuid4(), "# Somebody else's")
    records = await export(api, tokens, uploader)
    assert [(r["filename"], r["title"], r["game"], r["size"]) for r in records] == [
        ("guide.md", "A guide", api.game, 9)
    ] * 3
    assert "content" not in records[0]


async def test_an_erased_uploader_stands_nowhere_and_their_files_stay(
    api: Api, tokens: Tokens, sessions: Sessions
) -> None:
    uploader, pseudonym = uuid4(), uuid4()
    await upload(api, tokens, uploader, "# Guide")
    assert len(await rows_with(sessions, str(uploader))) == 1
    path, body = f"/internal/users/{uploader}/erase", {"pseudonym": str(pseudonym)}
    for _ in range(2):
        reply = await api.http.post(path, json=body, headers=tokens.service_headers(*PRIVACY))
        assert reply.status_code == 204
        assert await rows_with(sessions, str(uploader)) == []
        assert len(await rows_with(sessions, str(pseudonym))) == 1
    assert await export(api, tokens, uploader) == []


async def test_nobody_but_auth_exports_or_erases(api: Api, tokens: Tokens) -> None:
    path = f"/internal/users/{uuid4()}"
    for headers in (tokens.headers(role="admin"), tokens.service_headers("admin", "worker", "worker:ops")):
        assert (await api.http.get(f"{path}/export", headers=headers)).status_code == 403
        body = {"pseudonym": str(uuid4())}
        assert (await api.http.post(f"{path}/erase", json=body, headers=headers)).status_code == 403
