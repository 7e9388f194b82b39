"""The same question as server-sent events, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from coach.app import build
from common.testing import listening
from standins.gate import Gate
from standins.openai import OpenAIStandin
from standins.standin import Reply

from .conftest import MakeSettings
from .events import Event, asking
from .rag_standin import ARCHER, RETRIEVE, RagStandin
from .test_ask import QUESTION, REMEMBERED

LEAVING_SECONDS = 0.5


@pytest.fixture(scope="module")
async def url(settings: MakeSettings) -> AsyncIterator[str]:
    """A coach with a model on a real socket."""
    async with listening(build(settings())) as url:
        yield url


async def all_events(url: str, player: dict[str, str], game: str, **headers: str) -> list[Event]:
    async with asking(url, player, {"game": game, "question": QUESTION}, **headers) as events:
        return [event async for event in events]


def shape(events: list[Event]) -> list[str]:
    """The names with repeats left out."""
    names = [event.name for event in events]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


async def test_stream_tells_meta_tokens_citations_and_one_done(
    url: str, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry is good against archers [2], who are weak in melee [1].")
    events = await all_events(url, player, game)
    assert shape(events) == ["meta", "token", "citation", "done"]
    assert [event.id for event in events] == [str(number) for number in range(1, len(events) + 1)]
    done = events[-1].data
    assert events[0].data == {"id": done["id"], "cache": "miss", "patch": "1.16.9"}
    assert "".join(event.data["text"] for event in events if event.name == "token") == done["answer"]
    assert [event.data for event in events if event.name == "citation"] == done["citations"]
    assert done["answer"] == "Cavalry is good against archers [2], who are weak in melee [1]."
    async with httpx.AsyncClient(base_url=url, headers=player, trust_env=False) as client:
        stored = (await client.get(f"/api/coach/answers/{done['id']}")).json()
    assert {name: stored[name] for name in done} == done


async def test_stream_first_token_arrives_before_the_model_sends_its_last(
    url: str, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    pace = Gate()
    openai.say("Cavalry is good [2].", pace=pace)
    async with asking(url, player, {"game": game, "question": QUESTION}) as events:
        pace.release()
        assert (await anext(events)).name == "meta"
        assert (await anext(events)).data == {"text": "Cavalry"}
        assert openai.calls[0].completion_tokens == 1
        pace.open()
        assert [event.name async for event in events][-1] == "done"


async def test_stream_never_shows_a_marker_of_no_passage_even_when_it_arrives_in_pieces(
    url: str, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry [ 9 ] beats archers [ 2 ].")  # the stand-in sends word by word
    events = await all_events(url, player, game)
    texts = [event.data["text"] for event in events if event.name == "token"]
    assert not any("9" in text for text in texts)
    assert "".join(texts) == "Cavalry beats archers [2]."


@pytest.mark.parametrize("cache", ["exact", "semantic"])
async def test_stream_cached_answer_streams_too(
    url: str, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str, cache: str
) -> None:
    long_answer = "Cavalry is good against archers. " * 10 + "[2]"
    rag.has_cached(REMEMBERED | {"answer": long_answer}, cache=cache, similarity=0.95)
    events = await all_events(url, player, game)
    assert shape(events) == ["meta", "token", "citation", "done"]
    assert events[0].data["cache"] == cache
    tokens = [event.data["text"] for event in events if event.name == "token"]
    assert len(tokens) > 3
    assert "".join(tokens) == long_answer == events[-1].data["answer"]
    assert openai.calls == []


async def test_stream_degraded_answer_streams_too(
    url: str, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.fail(401)
    events = await all_events(url, player, game)
    assert shape(events) == ["meta", "token", "citation", "done"]
    assert events[-1].data["degraded"] is True


async def test_stream_not_covered_streams_too(url: str, rag: RagStandin, player: dict[str, str], game: str) -> None:
    rag.knows_nothing()
    events = await all_events(url, player, game)
    assert shape(events) == ["meta", "token", "done"]
    assert events[-1].data["covered"] is False


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"cut_after": 2}, "ai_interrupted"),
        ({"malformed_after": 2}, "ai_interrupted"),
        ({"finish_reason": "length"}, "ai_truncated"),
        ({"finish_reason": "content_filter"}, "ai_filtered"),
    ],
)
async def test_stream_an_unfinished_answer_ends_in_one_error_and_no_done(
    url: str,
    rag: RagStandin,
    openai: OpenAIStandin,
    player: dict[str, str],
    game: str,
    said: dict[str, Any],
    code: str,
) -> None:
    openai.say("Cavalry is good [2].", **said)
    events = await all_events(url, player, game, **{"Accept-Language": "ko"})
    assert shape(events) == ["meta", "token", "error"]
    error = events[-1].data
    assert (error["code"], error["status"], error["instance"]) == (code, 502, "/api/coach/ask")
    assert error["type"] == f"urn:dugout:problem:{code}"
    assert any("가" <= letter <= "힣" for letter in error["title"])
    assert "errors" not in error
    assert rag.remembered == []


async def test_stream_what_fails_before_the_first_event_is_an_ordinary_problem(
    url: str, rag: RagStandin, player: dict[str, str], game: str
) -> None:
    rag.is_down()
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        headers = {**player, "Accept": "text/event-stream"}
        response = await client.post("/api/coach/ask", json={"game": game, "question": QUESTION}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["content-type"] == "application/problem+json"


async def test_stream_beats_while_the_model_thinks(
    settings: MakeSettings, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    thinking = Gate()
    openai.say("Cavalry [2].", hold=thinking)
    async with (
        listening(build(settings(heartbeat=0.05))) as url,
        asking(url, player, {"game": game, "question": QUESTION}) as events,
    ):
        assert (await anext(events)).name == "meta"
        assert (await anext(events)).name == ":"
        assert (await anext(events)).name == ":"
        thinking.open()
        assert [event.name async for event in events if event.name != ":"][-1] == "done"


@pytest.mark.parametrize("tokens_before", [0, 2])
async def test_stream_when_the_player_leaves_the_model_is_hung_up(
    url: str, openai: OpenAIStandin, player: dict[str, str], game: str, tokens_before: int
) -> None:
    pace = Gate()
    pace.release(tokens_before)
    openai.say("Cavalry is good against archers [2].", pace=pace)
    async with asking(url, player, {"game": game, "question": QUESTION}) as events:
        for _ in range(1 + tokens_before):
            await anext(events)
        await openai.until(lambda calls: calls and calls[0].status == 200)
        left_at = asyncio.get_running_loop().time()
    (call,) = await openai.until(lambda calls: calls[0].disconnected_at)
    assert call.disconnected_at is not None
    assert call.disconnected_at - left_at < LEAVING_SECONDS


async def test_json_caller_who_leaves_hangs_the_model_up(
    url: str, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry [2].", hold=Gate())
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        body = {"game": game, "question": QUESTION}
        asking_json = asyncio.create_task(client.post("/api/coach/ask", json=body, headers=player))
        await openai.until(len)
        asking_json.cancel()
    left_at = asyncio.get_running_loop().time()
    (call,) = await openai.until(lambda calls: calls[0].disconnected_at)
    assert call.disconnected_at is not None
    assert call.disconnected_at - left_at < LEAVING_SECONDS


async def test_stream_player_who_leaves_before_the_first_event_stops_the_question(
    url: str, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    rag.script(RETRIEVE, Reply(hold=Gate()))
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        headers = {**player, "Accept": "text/event-stream"}
        body = {"game": game, "question": QUESTION}
        waiting = asyncio.create_task(client.post("/api/coach/ask", json=body, headers=headers))
        await rag.until(len)
        waiting.cancel()
    await rag.until(lambda calls: calls[0].disconnected_at)
    assert openai.calls == []


async def test_stream_a_bug_ends_in_a_bare_error(
    url: str, rag: RagStandin, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    # A title with a NUL, which Postgres refuses: what nobody foresaw fails after the first event.
    rag.passages = [ARCHER | {"title": "Archer\0"}]
    openai.say("Cavalry [1].")
    events = await all_events(url, player, game)
    assert shape(events) == ["meta", "token", "citation", "error"]
    assert (events[-1].data["code"], events[-1].data["status"]) == ("internal_error", 500)
