"""Tests of what coach gives out of a person, and what is left after erasing one."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlmodel import col, select, update

from coach import claims, privacy
from coach.models import Answer, Claim, Feedback
from common.db import Sessions, uuid7
from common.testing import Tokens

from .rag_standin import RagStandin
from .test_ask import ask

TABLES = ("answer", "feedback", "claim")


class Person:
    """A player, and what they asked."""

    def __init__(self, tokens: Tokens) -> None:
        self.id = uuid7()
        self.headers = tokens.headers(user_id=self.id)


@pytest.fixture
def person(tokens: Tokens) -> Person:
    return Person(tokens)


@pytest.fixture
def as_auth(tokens: Tokens) -> dict[str, str]:
    return tokens.service_headers("auth", "coach", "coach:privacy")


async def export(client: httpx.AsyncClient, as_auth: dict[str, str], user_id: UUID) -> list[dict[str, Any]]:
    records, cursor = [], None
    while True:
        params = {"cursor": cursor} if cursor else {}
        reply = await client.get(f"/internal/users/{user_id}/export", params=params, headers=as_auth)
        assert reply.status_code == 200, reply.text
        records += reply.json()["records"]
        if not (cursor := reply.json()["next_cursor"]):
            return records


async def erase(client: httpx.AsyncClient, as_auth: dict[str, str], user_id: UUID, pseudonym: UUID) -> httpx.Response:
    return await client.post(f"/internal/users/{user_id}/erase", json={"pseudonym": str(pseudonym)}, headers=as_auth)


async def rows_with(sessions: Sessions, *words: str) -> list[str]:
    """Rows of a person's tables in which one of the words stands, whatever the column."""
    found = []
    async with sessions() as session:
        for table in TABLES:
            rows = await session.exec(text(f"SELECT t::text FROM coach.{table} t"))  # type: ignore[call-overload]  # noqa: S608
            found += [row for (row,) in rows if any(word in row for word in words)]
    return found


async def test_an_export_holds_each_answer_with_its_question_feedback_and_key(
    client: httpx.AsyncClient, as_auth: dict[str, str], person: Person, game: str
) -> None:
    keyed = {**person.headers, "Idempotency-Key": "key-1"}
    first = (await ask(client, keyed, game, question="궁수는 어때?")).json()
    second = (await ask(client, person.headers, game, question="And cavalry?")).json()
    said = {"verdict": "down", "comment": "틀렸어요"}
    await client.post(f"/api/coach/answers/{first['id']}/feedback", json=said, headers=person.headers)
    records = await export(client, as_auth, person.id)
    assert [(record["id"], record["question"]) for record in records] == [
        (first["id"], "궁수는 어때?"),
        (second["id"], "And cavalry?"),
    ]
    assert (records[0]["feedback"], records[0]["feedback_comment"]) == ("down", "틀렸어요")
    assert [record["idempotency_key"] for record in records] == ["key-1", None]
    assert records[0]["citations"] == first["citations"]


async def test_an_export_comes_in_pages_and_is_nobody_elses(
    client: httpx.AsyncClient,
    as_auth: dict[str, str],
    tokens: Tokens,
    person: Person,
    game: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(privacy, "PAGE", 2)
    await ask(client, tokens.headers(), game, question="Somebody else's?")
    asked = [(await ask(client, person.headers, game, question=f"Question {n}?")).json()["id"] for n in range(5)]
    first = await client.get(f"/internal/users/{person.id}/export", headers=as_auth)
    assert len(first.json()["records"]) == 2
    assert [record["id"] for record in await export(client, as_auth, person.id)] == asked


async def test_erasing_leaves_figures_under_the_pseudonym_and_no_words(
    client: httpx.AsyncClient,
    as_auth: dict[str, str],
    sessions: Sessions,
    person: Person,
    game: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(privacy, "ERASED_AT_ONCE", 2)
    keyed = {**person.headers, "Idempotency-Key": "key-to-forget"}
    replies = [(await ask(client, keyed, game, question="Wie stark sind Bogenschützen?")).json()]
    replies += [(await ask(client, person.headers, game, question=f"Frage {n}?")).json() for n in range(4)]
    said = {"verdict": "wrong", "comment": "mein Kommentar"}
    await client.post(f"/api/coach/answers/{replies[1]['id']}/feedback", json=said, headers=person.headers)
    words = (str(person.id), "Bogenschützen", "Frage", "mein Kommentar", "key-to-forget", replies[0]["answer"])
    assert len(await rows_with(sessions, *words[:5])) == 7
    pseudonym = uuid4()
    assert (await erase(client, as_auth, person.id, pseudonym)).status_code == 204
    assert await rows_with(sessions, *words[:5]) == []
    async with sessions() as session:
        rows = (await session.exec(select(Answer).where(Answer.user_id == pseudonym).order_by(col(Answer.id)))).all()
        feedback = await session.get_one(Feedback, UUID(replies[1]["id"]))
    assert [(str(row.id), row.latency_ms) for row in rows] == [(r["id"], r["latency_ms"]) for r in replies]
    assert [(row.prompt_tokens, row.cost_usd) for row in rows] != [(0, 0)] * 5
    assert {(row.question, row.answer, len(row.citations), row.conversation_id, row.trace_id) for row in rows} == {
        ("", "", 0, None, None)
    }
    assert (feedback.verdict, feedback.comment) == ("wrong", None)


async def test_statistics_are_the_same_before_and_after(
    client: httpx.AsyncClient, as_auth: dict[str, str], tokens: Tokens, person: Person, game: str
) -> None:
    for n in range(3):
        await ask(client, person.headers, game, question=f"Question {n}?")
    await ask(client, tokens.headers(), game, question="Another player's?")

    async def figures() -> Any:
        headers = tokens.service_headers("admin", "coach", "coach:read")
        stats = (await client.get("/internal/stats", params={"by": "game"}, headers=headers)).json()
        return stats["totals"], [point for point in stats["series"] if point["key"] == game]

    before = await figures()
    assert (before[1][0]["questions"], before[1][0]["players"]) == (4, 2)
    await erase(client, as_auth, person.id, uuid4())
    assert await figures() == before


async def test_cached_answers_made_from_the_persons_questions_are_forgotten_first(
    client: httpx.AsyncClient, as_auth: dict[str, str], sessions: Sessions, rag: RagStandin, person: Person, game: str
) -> None:
    await ask(client, person.headers, game, question="Who counters archers?")
    [offer] = rag.remembered
    rag.is_down("/internal/answers/forget")
    refused = await erase(client, as_auth, person.id, uuid4())
    assert refused.status_code == 503
    assert await rows_with(sessions, str(person.id)) != []
    assert (await erase(client, as_auth, person.id, uuid4())).status_code == 204
    assert rag.forgotten == [{"asker": offer["asker"]}] * 2
    assert str(person.id) not in str(offer)


async def test_erasing_again_catches_what_came_late_and_changes_nothing_else(
    client: httpx.AsyncClient, as_auth: dict[str, str], sessions: Sessions, person: Person, game: str
) -> None:
    pseudonym = uuid4()
    await ask(client, person.headers, game, question="Early?")
    await erase(client, as_auth, person.id, pseudonym)
    await ask(client, {**person.headers, "Idempotency-Key": "late"}, game, question="Late?")
    for _ in range(2):
        assert (await erase(client, as_auth, person.id, pseudonym)).status_code == 204
        assert await rows_with(sessions, str(person.id), "Late?") == []
    async with sessions() as session:
        theirs = (await session.exec(select(Answer).where(Answer.user_id == pseudonym))).all()
        assert len(theirs) == 2
        assert (await session.exec(select(Claim).where(Claim.owner == claims.asker(person.id)))).all() == []


async def test_a_comment_made_during_the_erasure_does_not_stay(
    client: httpx.AsyncClient, as_auth: dict[str, str], sessions: Sessions, person: Person, game: str
) -> None:
    answer_id = (await ask(client, person.headers, game, question="Q?")).json()["id"]
    async with sessions.begin() as session:  # an erasure that has not committed yet
        await session.exec(update(Answer).where(col(Answer.id) == UUID(answer_id)).values(user_id=uuid4()))
        said = {"verdict": "up", "comment": "too late"}
        rating = asyncio.create_task(
            client.post(f"/api/coach/answers/{answer_id}/feedback", json=said, headers=person.headers)
        )
        done, _ = await asyncio.wait([rating], timeout=0.3)
        assert not done
    assert (await rating).status_code == 404
    assert await rows_with(sessions, "too late") == []


async def test_nobody_but_auth_exports_or_erases(client: httpx.AsyncClient, tokens: Tokens, person: Person) -> None:
    for headers in (person.headers, tokens.service_headers("admin", "coach", "coach:read coach:games")):
        assert (await client.get(f"/internal/users/{person.id}/export", headers=headers)).status_code == 403
        assert (await erase(client, headers, person.id, uuid4())).status_code == 403
