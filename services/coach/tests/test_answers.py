"""History, single answers and feedback: each player's own."""

import httpx
from sqlmodel import select

from coach.models import Feedback
from common.db import Sessions, uuid7
from common.testing import Tokens

from .test_ask import ask


async def test_history_is_paged_newest_first(client: httpx.AsyncClient, player: dict[str, str], game: str) -> None:
    asked = [(await ask(client, player, game, question=f"Question {n}?")).json()["id"] for n in range(5)]
    pages, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/coach/answers", params=params, headers=player)).json()
        pages.append([item["id"] for item in page["items"]])
        if not (cursor := page["next_cursor"]):
            break
    newest = asked[::-1]
    assert pages == [newest[:2], newest[2:4], newest[4:]]


async def test_history_holds_questions_and_replies_of_nobody_else(
    client: httpx.AsyncClient, tokens: Tokens, player: dict[str, str], game: str
) -> None:
    reply = (await ask(client, player, game, question="Mine?")).json()
    assert (await client.get("/api/coach/answers", headers=tokens.headers())).json() == {
        "items": [],
        "next_cursor": None,
    }
    (item,) = (await client.get("/api/coach/answers", headers=player)).json()["items"]
    assert item == reply | {"question": "Mine?", "conversation_id": None, "feedback": None}
    assert (await client.get(f"/api/coach/answers/{reply['id']}", headers=player)).json() == item


async def test_another_players_answer_is_not_found(
    client: httpx.AsyncClient, tokens: Tokens, player: dict[str, str], game: str
) -> None:
    path = f"/api/coach/answers/{(await ask(client, player, game)).json()['id']}"
    stranger = tokens.headers()
    for response in (
        await client.get(path, headers=stranger),
        await client.post(f"{path}/feedback", json={"verdict": "up"}, headers=stranger),
        await client.get(f"/api/coach/answers/{uuid7()}", headers=player),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_later_verdict_replaces_an_earlier_one(
    client: httpx.AsyncClient, player: dict[str, str], game: str, sessions: Sessions
) -> None:
    answer_id = (await ask(client, player, game)).json()["id"]
    path = f"/api/coach/answers/{answer_id}"
    first = await client.post(f"{path}/feedback", json={"verdict": "up"}, headers=player)
    assert (first.status_code, first.content) == (204, b"")
    await client.post(f"{path}/feedback", json={"verdict": "wrong", "comment": " Not so. \0"}, headers=player)
    assert (await client.get(path, headers=player)).json()["feedback"] == "wrong"
    async with sessions() as session:
        (row,) = (await session.exec(select(Feedback).where(Feedback.answer_id == answer_id))).all()
    assert (row.verdict, row.comment) == ("wrong", "Not so.")


async def test_feedback_of_another_kind_is_422(client: httpx.AsyncClient, player: dict[str, str], game: str) -> None:
    path = f"/api/coach/answers/{(await ask(client, player, game)).json()['id']}/feedback"
    for body in ({"verdict": "meh"}, {}, {"verdict": "up", "comment": "x" * 2001}):
        assert (await client.post(path, json=body, headers=player)).status_code == 422


async def test_a_cursor_that_is_none_and_a_limit_beyond_100_are_422(
    client: httpx.AsyncClient, player: dict[str, str]
) -> None:
    for params in ({"cursor": "x"}, {"limit": "0"}, {"limit": "101"}):
        assert (await client.get("/api/coach/answers", params=params, headers=player)).status_code == 422
