"""Tests of what the audit gives out of a person, and what is left after erasing one."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from admin import privacy
from admin.audit import audited
from admin.models import Audit
from common.db import Sessions
from common.identity import User
from common.testing import Tokens


@pytest.fixture
def as_auth(tokens: Tokens) -> dict[str, str]:
    return tokens.service_headers("auth", "admin", "admin:privacy")


@pytest.fixture
async def person(sessions: Sessions) -> UUID:
    """An operator who set up a game and banned somebody, whose role somebody else changed."""
    person, operator, banned = uuid4(), uuid4(), uuid4()
    rows = [
        Audit(
            actor_id=person,
            action="game.put",
            target="chess",
            after={"owner": str(person)},
            outcome="done",
            request_id=str(person),
        ),
        Audit(actor_id=person, action="user.change", target=str(banned), after={"reason": "rude"}, outcome="done"),
        Audit(
            actor_id=operator,
            action="user.change",
            target=str(person),
            before={"role": "viewer"},
            after={"role": "admin", "reason": "somebody@example.com asked me to"},
            outcome="done",
        ),
        Audit(actor_id=operator, action="game.put", target="go", outcome="done"),
    ]
    async with sessions.begin() as session:
        session.add_all(rows)
    return person


async def export(client: httpx.AsyncClient, as_auth: dict[str, str], user_id: UUID) -> list[dict[str, Any]]:
    records, cursor = [], None
    while True:
        params = {"cursor": cursor} if cursor else {}
        page = (await client.get(f"/internal/users/{user_id}/export", params=params, headers=as_auth)).json()
        records += page["records"]
        if not (cursor := page["next_cursor"]):
            return records


async def rows_with(sessions: Sessions, word: str) -> list[str]:
    async with sessions() as session:
        rows = await session.exec(text("SELECT a::text FROM admin.audit a"))  # type: ignore[call-overload]
        return [row for (row,) in rows if word in row]


async def test_an_export_tells_changes_by_and_to_the_person_and_of_nobody_else(
    client: httpx.AsyncClient, as_auth: dict[str, str], person: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "PAGE", 1)
    records = await export(client, as_auth, person)
    assert [(r["action"], r["by_you"], r["target"]) for r in records] == [
        ("game.put", True, "chess"),
        ("user.change", True, None),
        ("user.change", False, str(person)),
    ]
    assert records[1]["after"] is None
    assert records[2]["before"] == {"role": "viewer"}
    assert "actor_id" not in records[2]


async def test_an_erased_person_stands_nowhere_in_the_audit(
    client: httpx.AsyncClient, as_auth: dict[str, str], sessions: Sessions, person: UUID
) -> None:
    assert len(await rows_with(sessions, str(person))) == 3
    pseudonym = uuid4()
    for _ in range(2):
        body = {"pseudonym": str(pseudonym)}
        reply = await client.post(f"/internal/users/{person}/erase", json=body, headers=as_auth)
        assert reply.status_code == 204
        assert await rows_with(sessions, str(person)) == []
        assert len(await rows_with(sessions, str(pseudonym))) == 3
    assert [row for row in await rows_with(sessions, str(pseudonym)) if "somebody@example.com" in row] == []


async def test_a_change_that_ends_after_its_author_was_erased_does_not_name_them_again(
    client: httpx.AsyncClient, as_auth: dict[str, str], sessions: Sessions
) -> None:
    author = User(id=uuid4(), role="admin", plan="free", session_id="s", token="t")
    async with audited(sessions, author, "game.put", "chess") as entry:
        entry.after = {"patch": "2"}
        body = {"pseudonym": str(uuid4())}
        await client.post(f"/internal/users/{author.id}/erase", json=body, headers=as_auth)
    assert await rows_with(sessions, str(author.id)) == []
    assert len(await rows_with(sessions, body["pseudonym"])) == 1


async def test_nobody_but_auth_exports_or_erases(client: httpx.AsyncClient, tokens: Tokens) -> None:
    path = f"/internal/users/{uuid4()}"
    for headers in (tokens.headers(role="admin"), tokens.service_headers("coach", "admin", "admin:read")):
        assert (await client.get(f"{path}/export", headers=headers)).status_code == 403
        body = {"pseudonym": str(uuid4())}
        assert (await client.post(f"{path}/erase", json=body, headers=headers)).status_code == 403
