"""Vectors: from the local model, from an API, from files, and remembered."""

import asyncio
import threading
import unicodedata
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr, ValidationError

from common.errors import AIError, AIUnavailableError, UnavailableError
from rag.embedding import DIMENSIONS, Embedder, Embeddings, Vector, clean, passage_text, text_digest, unit
from rag.local_embedding import NAME, WAITING_QUERIES, WINDOW, LocalEmbedder, local_embedder
from rag.openai_embedding import BATCH, OpenAIEmbedder, openai_embedder
from rag.settings import Settings
from rag.vectors import chunk_texts, load_vectors, make_vectors, write_vectors
from standins.openai import EMBEDDINGS, OpenAIStandin, run_openai


class CountingEmbedder:
    """A provider whose vectors say nothing, which counts what it is asked and answers when told to."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.fail = False

    async def embed_query(self, text: str) -> Vector:
        self.asked.append(text)
        await self.go.wait()
        if self.fail:
            raise AIUnavailableError
        return unit(np.ones(DIMENSIONS))

    async def embed_passages(self, texts: Sequence[str]) -> list[Vector]:
        return [await self.embed_query(text) for text in texts]


@pytest.fixture
async def local() -> AsyncIterator[LocalEmbedder]:
    async with local_embedder(threads=1) as embedder:
        yield embedder


@pytest.fixture(scope="module")
def openai_server() -> Iterator[OpenAIStandin]:
    with run_openai() as server:
        yield server


@pytest.fixture
async def openai(openai_server: OpenAIStandin) -> AsyncIterator[OpenAIEmbedder]:
    openai_server.clear()
    async with openai_embedder("key", openai_server.base_url, "text-embedding-3-small") as embedder:
        yield embedder


async def test_local_model_finds_the_right_passage_in_either_language(local: LocalEmbedder) -> None:
    passages = await local.embed_passages(["웨스노스에서 재소집 비용은 금 20이다.", "Trolls regenerate 8 HP."])
    for question, right in (("리콜하는 데 얼마나 들어?", 0), ("How do trolls heal?", 1)):
        vector = await local.embed_query(question)
        assert vector.shape == (DIMENSIONS,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
        assert int(np.argmax([vector @ passage for passage in passages])) == right


async def test_local_model_sees_one_text_in_all_its_spellings(local: LocalEmbedder) -> None:
    composed = await local.embed_query("재소집 비용")
    for spelling in (unicodedata.normalize("NFD", "재소집 비용"), "재소집\0 비용"):
        assert np.array_equal(composed, await local.embed_query(spelling))


async def test_local_model_answers_a_question_while_documents_are_at_work(
    local: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, go_on = local._model.passage, threading.Event()
    monkeypatch.setattr(local._model, "passage", lambda text: go_on.wait(20) and embed(text))
    bulk = asyncio.create_task(local.embed_passages([f"document {n}" for n in range(20)]))
    try:
        await asyncio.sleep(0)
        await asyncio.wait_for(local.embed_query("창병 비용이 얼마야?"), 5)
        assert not bulk.done()
    finally:
        go_on.set()
    assert len(await bulk) == 20


async def test_local_model_refuses_questions_beyond_its_queue(local: LocalEmbedder) -> None:
    questions = (local.embed_query(f"question {n}") for n in range(WAITING_QUERIES + 3))
    results = await asyncio.gather(*questions, return_exceptions=True)
    assert sum(isinstance(result, UnavailableError) for result in results) == 3


async def test_equal_questions_are_embedded_once_even_together() -> None:
    provider = CountingEmbedder()
    embeddings = Embeddings(provider, {})
    asked = [asyncio.create_task(embeddings.embed_query(text)) for text in ("창병", "창병", "궁수")]
    await asyncio.sleep(0)
    provider.go.set()
    await asyncio.gather(*asked)
    await embeddings.embed_query("창병")
    assert provider.asked == ["창병", "궁수"]


async def test_one_player_leaving_does_not_take_the_vector_from_another() -> None:
    provider = CountingEmbedder()
    embeddings = Embeddings(provider, {})
    leaving, staying = (asyncio.create_task(embeddings.embed_query("창병")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    provider.go.set()
    assert (await staying).shape == (DIMENSIONS,)


async def test_a_failed_embedding_is_not_remembered() -> None:
    provider = CountingEmbedder()
    provider.go.set()
    provider.fail = True
    embeddings = Embeddings(provider, {})
    with pytest.raises(AIUnavailableError):
        await embeddings.embed_query("창병")
    provider.fail = False
    await embeddings.embed_query("창병")
    assert provider.asked == ["창병", "창병"]


async def test_shipped_vectors_spare_the_provider(tmp_path: Path) -> None:
    provider: Embedder = CountingEmbedder()
    known, unknown = passage_text("창병", "비용 14"), passage_text("궁수", "비용 14")
    vector = unit(np.arange(DIMENSIONS))
    for model in ("counting", "another"):
        write_vectors(tmp_path / f"vectors-{model}.npz", model, {text_digest(known): vector.astype(np.float16)})
    shipped = load_vectors(str(tmp_path / "*.npz"), "counting")
    assert list(shipped) == [text_digest(known)]
    assert isinstance(provider, CountingEmbedder)
    provider.go.set()
    found = await Embeddings(provider, shipped).embed_passages([unknown, known, unknown])
    assert provider.asked == [unknown, unknown]
    assert found[1] @ vector == pytest.approx(1, abs=1e-3)


async def test_vector_files_are_completed_not_made_anew(tmp_path: Path) -> None:
    line = '{"title": "창병", "text": "%s", "locale": "ko"}\n'
    documents = tmp_path / "documents.jsonl"
    documents.write_text(line % "비용 14" + line % ("긴 문장이다. " * 300))
    await make_vectors(tmp_path, threads=1)
    path = tmp_path / f"vectors-{NAME}.npz"
    first = path.read_bytes()
    texts = chunk_texts(documents)
    assert len(texts) > 2
    assert all(text.startswith("창병\n") and len(text) <= 1_203 for text in texts)
    await make_vectors(tmp_path, threads=1)
    assert path.read_bytes() == first


async def test_openai_is_asked_in_batches_at_our_width(openai: OpenAIEmbedder, openai_server: OpenAIStandin) -> None:
    vectors = await openai.embed_passages([f"text {n}" for n in range(BATCH + 1)])
    assert [len(call.body["input"]) for call in openai_server.calls] == [BATCH, 1]
    assert {call.body["dimensions"] for call in openai_server.calls} == {DIMENSIONS}
    assert openai.name == "text-embedding-3-small-384"
    assert len(vectors) == BATCH + 1
    assert vectors[0] @ await openai.embed_query("text 0") == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("status", "error"), [(429, AIUnavailableError), (500, AIUnavailableError), (400, AIError)])
async def test_openai_failures_are_ours_and_not_repeated_by_the_sdk(
    openai: OpenAIEmbedder, openai_server: OpenAIStandin, status: int, error: type[AIError]
) -> None:
    openai_server.fail(status, path=EMBEDDINGS)
    with pytest.raises(error):
        await openai.embed_query("text")
    assert len(openai_server.calls) == 1


def test_openai_needs_a_key(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="openai_api_key is not set"):
        Settings(**(dict(settings) | {"embedding_provider": "openai", "openai_api_key": None}))
    Settings(**(dict(settings) | {"embedding_provider": "openai", "openai_api_key": SecretStr("sk-something-long")}))


async def test_no_text_can_write_past_the_engines_memory() -> None:
    async with local_embedder(1) as embedder:
        vector = await embedder.embed_query("\ufdfa" * 700)
        (passage,) = await embedder.embed_passages(["\ufdfa" * 2000 + "\ud800"])
    assert vector.shape == passage.shape == (384,)


@pytest.mark.parametrize(
    "filler", ["창병이 둘 있고 밤이야. ", "I have two spearmen. ", "뷁쀍", unicodedata.normalize("NFKC", "\ufdfa")]
)
async def test_a_long_question_costs_the_window_that_asks(filler: str) -> None:
    question = "뭘로 승급해?"
    long = (filler * 2000)[:2000] + question
    async with local_embedder(1) as embedder:
        window = embedder.last_window(long)
        assert embedder._model.token_count(window, True) <= WINDOW
        assert long.endswith(window)
        assert window.endswith(question)
        assert embedder.last_window(question) == question


def test_cleaned_text_is_composed_whatever_stood_between() -> None:
    assert clean("\u1112\0\u1161\u11ab") == "한"
