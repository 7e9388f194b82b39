"""What a question costs of a player's daily quota, in the head of its reply."""

from collections.abc import AsyncIterator

import httpx
import pytest

from coach.app import build
from common.testing import listening
from standins.openai import OpenAIStandin

from .conftest import MakeSettings
from .rag_standin import RagStandin
from .test_ask import QUESTION, REMEMBERED

COST = "dugout-question-cost"
JSON, EVENTS = {"Accept": "application/json"}, {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
async def client(settings: MakeSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a coach on a real socket, where a head arrives before its stream."""
    async with listening(build(settings())) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


async def ask(client: httpx.AsyncClient, game: str, *headers: dict[str, str]) -> httpx.Response:
    everything = {name: value for some in headers for name, value in some.items()}
    return await client.post("/api/coach/ask", json={"game": game, "question": QUESTION}, headers=everything)


@pytest.mark.parametrize("accept", [JSON, EVENTS])
async def test_an_answer_that_was_written_costs_a_question(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str, accept: dict[str, str]
) -> None:
    openai.say("Cavalry [2].")
    assert (await ask(client, game, player, accept)).headers[COST] == "1"


@pytest.mark.parametrize("accept", [JSON, EVENTS])
@pytest.mark.parametrize("cache", ["exact", "semantic"])
async def test_a_cached_answer_costs_a_tenth(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str, cache: str, accept: dict[str, str]
) -> None:
    rag.has_cached(REMEMBERED, cache=cache, similarity=0.97)
    assert (await ask(client, game, player, accept)).headers[COST] == "0.1"


@pytest.mark.parametrize("accept", [JSON, EVENTS])
async def test_a_reply_told_again_costs_nothing(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str, accept: dict[str, str]
) -> None:
    openai.say("Cavalry [2].")
    key = {"Idempotency-Key": f"cost-{accept['Accept']}"}
    costs = [(await ask(client, game, player, accept, key)).headers[COST] for _ in range(2)]
    assert costs == ["1", "0"]


@pytest.mark.parametrize("accept", [JSON, EVENTS])
async def test_the_cost_is_no_part_of_the_reply_itself(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str, accept: dict[str, str]
) -> None:
    openai.say("Cavalry [2].")
    assert "question_cost" not in (await ask(client, game, player, accept)).text


async def test_a_failure_names_no_cost(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str
) -> None:
    rag.is_down()
    failed = await ask(client, game, player)
    assert failed.status_code >= 400
    assert COST not in failed.headers
