"""What a question may look like, and what it is told when it may not."""

import time
from typing import Any

import httpx
import pytest

from common.testing import Tokens
from standins.openai import OpenAIStandin

from .conftest import SetGame
from .rag_standin import RagStandin
from .test_ask import ask


@pytest.mark.parametrize("question", ["", " \n\t ", "\u200b\ufeff \u3164", "\0", "x" * 2001])
async def test_a_question_needs_1_to_2000_visible_characters(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str, question: str
) -> None:
    response = await ask(client, player, game, question=question)
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "invalid_request"
    assert problem["errors"][0]["field"] == "body.question"
    assert rag.calls == []


async def test_2000_characters_are_not_too_many_and_blanks_around_them_do_not_count(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str
) -> None:
    assert (await ask(client, player, game, question=f"  {'x' * 2000}\n")).status_code == 200
    assert rag.retrievals[0].body["question"] == "x" * 2000


@pytest.mark.parametrize(
    "body",
    [
        {"question": f"a{' ' * 60_000}b"},
        {"context": {f"field-{number}": f"a{' ' * 7_900}b" for number in range(8)}},
        {"question": "a" + "\u0301\u0327" * 30_000},
    ],
    ids=["blanks", "many blanks", "marks"],
)
async def test_a_text_made_to_be_slow_holds_nobody_up(
    client: httpx.AsyncClient, player: dict[str, str], game: str, body: dict[str, Any]
) -> None:
    started = time.process_time()
    assert (await ask(client, player, game, **body)).status_code == 422
    assert time.process_time() - started < 0.8


async def test_a_long_korean_question_may_be_decomposed(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str
) -> None:
    assert (await ask(client, player, game, question="\u1112\u1161\u11ab" * 2000)).status_code == 200
    assert rag.retrievals[0].body["question"] == "한" * 2000


async def test_a_decomposed_korean_question_is_composed(
    client: httpx.AsyncClient, rag: RagStandin, player: dict[str, str], game: str
) -> None:
    await ask(client, player, game, question="\u1100\u116e\u11bc\u1109\u116e")
    assert rag.retrievals[0].body["question"] == "궁수"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"question": 5}', b'{"game": "\\ud800", "question": "x"}', b'{"game": "x", "question": "\xff"}'],
)
async def test_a_malformed_body_is_422(client: httpx.AsyncClient, player: dict[str, str], body: bytes) -> None:
    headers = {**player, "Content-Type": "application/json"}
    response = await client.post("/api/coach/ask", content=body, headers=headers)
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_unknown_game_is_404_in_the_callers_language(
    client: httpx.AsyncClient, player: dict[str, str], rag: RagStandin
) -> None:
    response = await ask(client, player | {"Accept-Language": "ko-KR,ko;q=0.9"}, "no-such-game")
    assert (response.status_code, response.json()["code"]) == (404, "unknown_game")
    assert response.json()["title"] == "등록되지 않은 게임입니다"
    assert rag.calls == []


@pytest.mark.parametrize(
    ("context", "field", "rule"),
    [
        ({"rank": "gold"}, "body.context.rank", "extra_forbidden"),
        ({"side": "sideways"}, "body.context.side", "enum"),
        ({"nickname": "x" * 11}, "body.context.nickname", "string_too_long"),
        ({"side": 5}, "body.context.side", "string_type"),
    ],
)
async def test_context_that_does_not_fit_the_game_is_422(
    client: httpx.AsyncClient,
    rag: RagStandin,
    player: dict[str, str],
    game: str,
    context: dict[str, Any],
    field: str,
    rule: str,
) -> None:
    response = await ask(client, player, game, context=context)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert (error["field"], error["type"]) == (field, rule)
    assert rag.calls == []


@pytest.mark.parametrize(
    ("asked", "own", "question", "locale"),
    [
        ("en", "ko", "궁수를 어떻게 이겨?", "en"),
        (None, "en", "궁수를 어떻게 이겨?", "en"),
        (None, "ko-KR", "How to beat archers?", "ko"),
        (None, "fr", "How to beat archers?", "en"),
        (None, None, "elvish archer 어떻게 이겨?", "ko"),
        (None, None, "How to beat archers?", "en"),
    ],
)
async def test_the_language_is_the_bodys_else_the_users_else_the_questions(
    client: httpx.AsyncClient,
    rag: RagStandin,
    tokens: Tokens,
    game: str,
    asked: str | None,
    own: str | None,
    question: str,
    locale: str,
) -> None:
    response = await ask(client, tokens.headers(locale=own), game, locale=asked, question=question)
    assert response.json()["locale"] == locale
    assert rag.retrievals[0].body["locale"] == locale


async def test_a_language_the_game_does_not_have_is_422_when_asked_for_and_else_not_chosen(
    client: httpx.AsyncClient, tokens: Tokens, set_game: SetGame
) -> None:
    game = await set_game(locales=["en"], titles={"en": "English only"})
    assert (await ask(client, tokens.headers(), game, locale="ko")).json()["errors"][0]["field"] == "body.locale"
    reply = await ask(client, tokens.headers(locale="ko"), game, question="궁수를 어떻게 이겨?")
    assert reply.json()["locale"] == "en"


async def test_an_unknown_field_of_the_body_is_422(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    response = await ask(client, player, game, model="gpt-5")
    assert response.json()["errors"][0]["field"] == "body.model"
    assert openai.calls == []
