"""A key is answered once: retries get the first reply, two at once do not pay twice."""

import asyncio
from datetime import timedelta

import httpx
from jose import jwt
from sqlalchemy import update
from sqlmodel import col

from coach.app import build
from coach.models import Claim
from common.db import Sessions, utc_now, uuid7
from common.testing import Tokens, listening
from standins.gate import Gate
from standins.openai import OpenAIStandin

from .conftest import MakeSettings
from .events import asking
from .test_ask import QUESTION


def with_key(player: dict[str, str], key: str) -> dict[str, str]:
    return {**player, "Idempotency-Key": key}


async def ask(client: httpx.AsyncClient, headers: dict[str, str], game: str, **body: str) -> httpx.Response:
    return await client.post("/api/coach/ask", json={"game": game, "question": QUESTION} | body, headers=headers)


async def test_a_retry_with_the_same_key_gets_the_first_reply_unpaid(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    first = await ask(client, with_key(player, "k-1"), game)
    second = await ask(client, with_key(player, "k-1"), game)
    assert first.status_code == 200
    assert second.content == first.content
    assert len(openai.chat_calls) == 1


async def test_a_streamed_retry_tells_the_first_reply_again(
    settings: MakeSettings, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry [2].")
    async with listening(build(settings())) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        first = (await ask(client, with_key(player, "k-1"), game)).json()
        async with asking(url, with_key(player, "k-1"), {"game": game, "question": QUESTION}) as events:
            told = [event async for event in events]
    assert [event.name for event in told] == ["meta", "token", "citation", "done"]
    assert told[-1].data == first
    assert len(openai.chat_calls) == 1


async def test_two_at_once_with_one_key_pay_once(
    settings: MakeSettings, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    thinking = Gate()
    openai.say("Cavalry [2].", hold=thinking)
    async with listening(build(settings())) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        first = asyncio.create_task(ask(client, with_key(player, "k-1"), game))
        await openai.until(len)
        second = await ask(client, with_key(player, "k-1"), game)
        thinking.open()
        assert (await first).status_code == 200
    assert (second.status_code, second.json()["code"]) == (409, "request_in_progress")
    assert second.headers["retry-after"] == "1"
    assert len(openai.chat_calls) == 1


async def test_a_key_used_for_another_question_is_refused(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    await ask(client, with_key(player, "k-1"), game)
    response = await ask(client, with_key(player, "k-1"), game, question="Something else?")
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    assert len(openai.chat_calls) == 1


async def test_a_key_belongs_to_its_player(
    client: httpx.AsyncClient, openai: OpenAIStandin, tokens: Tokens, game: str
) -> None:
    first = await ask(client, with_key(tokens.headers(), "k-1"), game)
    second = await ask(client, with_key(tokens.headers(), "k-1"), game)
    assert first.json()["id"] != second.json()["id"]
    assert len(openai.chat_calls) == 2


async def test_a_failed_question_gives_its_key_back(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry is good [2].", cut_after=2)
    assert (await ask(client, with_key(player, "k-1"), game)).status_code == 502
    assert (await ask(client, with_key(player, "k-1"), game)).status_code == 200


async def test_a_player_who_left_may_come_back_with_the_key(
    settings: MakeSettings, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    openai.say("Cavalry [2].", hold=Gate())
    async with listening(build(settings())) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            leaving = asyncio.create_task(ask(client, with_key(player, "k-1"), game))
            await openai.until(len)
            leaving.cancel()
        await openai.until(lambda calls: calls[0].disconnected_at)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client, asyncio.timeout(5):
            # The claim is given back just after the connection closes.
            while (again := await ask(client, with_key(player, "k-1"), game)).status_code == 409:
                pass
    assert again.status_code == 200


async def test_the_claim_of_a_process_that_died_lapses(
    client: httpx.AsyncClient, player: dict[str, str], game: str, sessions: Sessions
) -> None:
    key = f"k-{uuid7()}"
    async with sessions.begin() as session:
        owner = "ask:" + _user_id(player)
        session.add(Claim(owner=owner, key=key, digest=b"", expires_at=utc_now() + timedelta(minutes=1)))
    assert (await ask(client, with_key(player, key), game)).status_code == 422  # held, for another request
    async with sessions.begin() as session:
        lapsed = update(Claim).where(col(Claim.key) == key).values(expires_at=utc_now() - timedelta(seconds=1))
        await session.exec(lapsed)
    assert (await ask(client, with_key(player, key), game)).status_code == 200


async def test_a_key_with_blanks_or_too_long_is_refused(
    client: httpx.AsyncClient, player: dict[str, str], game: str
) -> None:
    for key in ("two words", "k" * 256):
        assert (await ask(client, with_key(player, key), game)).status_code == 422


def _user_id(player: dict[str, str]) -> str:
    claims = jwt.get_unverified_claims(player["Authorization"].removeprefix("Bearer "))
    return str(claims["sub"])
