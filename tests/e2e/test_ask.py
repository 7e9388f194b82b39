"""A player's questions, from sign-in to history."""

import json
import re
from uuid import UUID

import httpx
import pytest

from .conftest import SignIn, ask

QUESTIONS = {
    "en": "How many hit points does the Elvish Archer have?",
    "ko": "해골 궁사의 체력은 얼마야?",
}


@pytest.mark.parametrize("locale", QUESTIONS)
def test_a_question_about_a_real_game_is_answered_with_citations(player: httpx.Client, locale: str) -> None:
    answer = ask(player, "wesnoth", QUESTIONS[locale])
    assert (answer["game"], answer["locale"], answer["covered"]) == ("wesnoth", locale, True)
    assert answer["ai_generated"] is True
    markers = {int(marker) for marker in re.findall(r"\[(\d+)\]", answer["answer"])}
    assert markers == {citation["marker"] for citation in answer["citations"]} != set()
    for citation in answer["citations"]:
        assert citation["title"]
        assert citation["snippet"]
        assert citation["source"]


def test_asking_again_is_an_exact_hit_and_another_number_a_miss(
    player: httpx.Client, sign_in: SignIn, game: str
) -> None:
    first = ask(player, game, "What does the level 1 Granite Golem cost?")
    assert (first["cache"], first["is_cached"]) == ("miss", False)
    assert "14 gold" in first["answer"]
    again = ask(sign_in(), game, "What does the level 1 Granite Golem cost?")
    assert (again["cache"], again["is_cached"]) == ("exact", True)
    assert (again["answer"], again["citations"]) == (first["answer"], first["citations"])
    assert again["id"] != first["id"]
    near = ask(player, game, "What does the level 2 Granite Golem cost?")
    assert (near["cache"], near["is_cached"]) == ("miss", False)


def test_another_unit_is_never_served_the_first_ones_answer(player: httpx.Client) -> None:
    for unit in ("Skeleton Archer", "Orcish Archer"):
        answer = ask(player, "wesnoth", f"How much does the {unit} cost?")
        assert answer["cache"] != "semantic"
        assert unit in answer["citations"][0]["title"]


def test_a_private_field_keeps_an_answer_out_of_the_cache(player: httpx.Client, game: str) -> None:
    for _ in range(2):
        answer = ask(player, game, "Which golem fears frost?", context={"nickname": "stoneheart"})
        assert answer["cache"] == "miss"


def test_a_stream_is_meta_then_tokens_then_citations_then_done(player: httpx.Client, game: str) -> None:
    body = {"game": game, "question": "How many hit points does the level 3 Granite Golem have?"}
    with player.stream("POST", "/api/coach/ask", json=body, headers={"Accept": "text/event-stream"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(response.iter_text()).split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if "event: " in block]
    names = " ".join(event["event"] for event in events)
    assert re.fullmatch(r"meta( token)+( citation)+ done", names), names
    assert len({event["id"] for event in events}) == len(events)
    meta, done = json.loads(events[0]["data"]), json.loads(events[-1]["data"])
    assert meta["id"] == done["id"]
    tokens = [json.loads(event["data"])["text"] for event in events if event["event"] == "token"]
    assert "".join(tokens) == done["answer"]
    assert len(done["citations"]) == names.split().count("citation")


def test_answers_can_be_read_again_newest_first_and_by_their_owner_only(
    player: httpx.Client, sign_in: SignIn, game: str
) -> None:
    asked = [ask(player, game, f"What does the level {level} Granite Golem resist?")["id"] for level in (1, 2)]
    page = player.get("/api/coach/answers", params={"limit": 1}).json()
    assert [item["id"] for item in page["items"]] == [asked[1]]
    rest = player.get("/api/coach/answers", params={"cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in rest["items"]] == [asked[0]]
    assert rest["items"][0]["question"] == "What does the level 1 Granite Golem resist?"
    assert player.get(f"/api/coach/answers/{asked[0]}").json()["id"] == asked[0]
    stranger = sign_in()
    assert stranger.get(f"/api/coach/answers/{asked[0]}").status_code == 404
    assert stranger.get("/api/coach/answers").json()["items"] == []
    rated = player.post(f"/api/coach/answers/{asked[0]}/feedback", json={"verdict": "up"})
    assert rated.status_code == 204


def test_a_retry_with_the_same_key_returns_the_first_reply(player: httpx.Client, game: str) -> None:
    body = {"game": game, "question": "Does the Granite Golem fear frost?"}
    replies = [player.post("/api/coach/ask", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert replies[0].json()["id"] == replies[1].json()["id"]


def test_games_are_listed_with_their_languages(player: httpx.Client, game: str) -> None:
    games = {item["slug"]: item for item in player.get("/api/coach/games").json()["games"]}
    assert games[game]["locales"] == ["en", "ko"]
    assert games["wesnoth"]["patch"]


def test_a_player_sees_their_own_profile(sign_in: SignIn) -> None:
    premium = sign_in(plan="premium")
    me = premium.get("/auth/me").json()
    assert (me["role"], me["plan"]) == ("player", "premium")
    assert UUID(me["id"]).version == 7
