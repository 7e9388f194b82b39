"""Coach's client against rag's own app: what one sends the other takes, what one gives the other reads."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from coach.clients import RagClient, RememberedAnswer, Retrieval, Retrieved
from coach.shapes import Citation
from common.errors import ForbiddenError, UpstreamError
from common.testing import Database, Tokens, rolled_back, running
from rag.app import build
from rag.settings import Settings

QUESTION = "창병의 비용은 얼마야?"
ASKER = uuid4()
TEXT = "창병의 비용은 금 14이고 체력은 36이다. 장검병이나 극창병으로 승급한다."


def retrieval(**changes: Any) -> Retrieval:
    values: dict[str, Any] = {
        "game": "contract",
        "locale": "ko",
        "patch": "1.16.9",
        "prompt_version": "0123456789ab",
        "model": "gpt-4o-mini",
        "context": {"side": "attack"},
        "question": QUESTION,
        "cross_lingual": True,
        "use_cache": True,
    }
    return Retrieval(**(values | changes))


@pytest.fixture(scope="module")
def rag_url(database: Database) -> str:
    return database.migrated("rag")


@pytest.fixture
async def rag(
    rag_url: str, redis_urls: dict[str, str], clean_redis: None, auth_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    """rag with an empty cache and no documents."""
    settings = Settings(
        env="development",
        auth_url=auth_url,
        client_secret=SecretStr("secret-of-the-tests"),
        database_url=SecretStr(rag_url),
        cache_redis_url=SecretStr(redis_urls["cache"]),
    )
    async with rolled_back(rag_url) as sessions, running(build(settings), sessions=sessions) as client:
        yield client


@pytest.fixture
async def document(rag: httpx.AsyncClient, tokens: Tokens) -> str:
    """The id of the one published document."""
    published = {
        "key": "unit:spearman",
        "locale": "ko",
        "patch": "1.16.9",
        "kind": "text",
        "title": "창병",
        "source": "wesnoth 1.16",
        "licence": "GPL-2.0-or-later",
        "url": "https://example.org/spearman",
        "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
        "as_of": "2026-10-01",
        "chunks": [{"text": TEXT, "start_ms": 61_000, "end_ms": 64_000}],
    }
    response = await rag.put(
        "/internal/documents",
        json={"game": "contract", "documents": [published]},
        headers=tokens.service_headers("worker", "rag", "rag:documents"),
    )
    response.raise_for_status()
    return str(response.json()["documents"][0]["id"])


@pytest.fixture
def client(rag: httpx.AsyncClient, tokens: Tokens) -> RagClient:
    """Coach's client, signed in as coach."""
    rag.headers.update(tokens.service_headers("coach", "rag", "rag:answer"))
    return RagClient(rag)


def answer_from(found: Retrieved) -> RememberedAnswer:
    passage = found.passages[0]
    citation = Citation(
        marker=1,
        document_id=passage.document_id,
        title=passage.title,
        snippet=passage.text,
        source=passage.source,
        url=passage.url,
        start_ms=passage.start_ms,
    )
    return RememberedAnswer(
        answer="금 14예요 [1].",
        citations=[citation],
        model="gpt-4o-mini",
        sources_as_of=found.sources_as_of,
        cost_usd="0.000208",
    )


async def test_a_new_question_gets_passages_with_all_that_a_citation_shows(client: RagClient, document: str) -> None:
    found = await client.retrieve(retrieval())
    assert (found.outcome, found.hit, found.covered) == ("lead", None, True)
    assert str(found.sources_as_of) == "2026-10-01"
    passage = found.passages[0]
    assert passage.document_id == document
    assert (passage.version, passage.title, passage.text) == (1, "창병", TEXT)
    assert (passage.source, passage.url) == ("wesnoth 1.16", "https://example.org/spearman")
    assert passage.start_ms == 61_000


async def test_a_remembered_answer_comes_back_whole(client: RagClient, document: str) -> None:
    found = await client.retrieve(retrieval())
    answer = answer_from(found)
    assert await client.remember(found, QUESTION, answer, found.passages[:1], ASKER) is True
    again = await client.retrieve(retrieval())
    assert again.outcome == "hit"
    assert again.hit is not None
    assert (again.hit.cache, again.hit.answer) == ("exact", answer)


@pytest.mark.parametrize(
    "changes",
    [{"patch": "1.18"}, {"prompt_version": "other"}, {"model": "extractive"}, {"context": {}}, {"use_cache": False}],
)
async def test_an_answer_serves_its_own_scope_only(client: RagClient, document: str, changes: dict[str, Any]) -> None:
    found = await client.retrieve(retrieval())
    await client.remember(found, QUESTION, answer_from(found), found.passages[:1], ASKER)
    assert (await client.retrieve(retrieval(**changes))).hit is None


async def test_an_answer_from_a_document_that_changed_is_declined(
    client: RagClient, rag: httpx.AsyncClient, tokens: Tokens, document: str
) -> None:
    found = await client.retrieve(retrieval())
    headers = tokens.service_headers("worker", "rag", "rag:documents")
    (await rag.delete(f"/internal/documents/{document}", headers=headers)).raise_for_status()
    assert await client.remember(found, QUESTION, answer_from(found), found.passages[:1], ASKER) is False


async def test_a_game_without_documents_covers_nothing(client: RagClient) -> None:
    found = await client.retrieve(retrieval(game="empty"))
    assert (found.outcome, found.passages, found.covered, found.sources_as_of) == ("lead", [], False, None)


async def test_answers_made_for_an_erased_person_are_forgotten(client: RagClient, document: str) -> None:
    found = await client.retrieve(retrieval())
    await client.remember(found, QUESTION, answer_from(found), found.passages[:1], ASKER)
    assert await client.forget(uuid4()) == 0
    assert await client.forget(ASKER) == 1
    assert (await client.retrieve(retrieval())).hit is None


async def test_rag_refuses_a_players_token(rag: httpx.AsyncClient, tokens: Tokens) -> None:
    rag.headers.update(tokens.headers())
    with pytest.raises((UpstreamError, ForbiddenError)):
        await RagClient(rag).retrieve(retrieval())
