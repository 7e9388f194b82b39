"""Calls to rag: to find, to remember, to forget; the fields we read of its replies."""

import hashlib
from collections.abc import Iterable
from datetime import date
from typing import Literal
from uuid import UUID

import httpx
from pydantic import BaseModel

from coach.shapes import Citation, Money
from common.http import call

# rag looks through all its cached answers, and no player waits.
FORGET_SECONDS = 60.0


class Passage(BaseModel):
    """A piece of a document, best first."""

    document_id: str
    version: int
    title: str
    text: str
    source: str
    locale: str
    url: str | None = None
    start_ms: int | None = None


class RememberedAnswer(BaseModel):
    """What we store in rag's caches and get back on a hit.

    Entries live for 28 days, longer than a release: a field added here needs a default.
    """

    answer: str
    citations: list[Citation]
    model: str
    sources_as_of: date | None
    cost_usd: Money | None


class Hit(BaseModel):
    """An answer from a cache; `similarity` is the raw cosine of a semantic hit."""

    cache: Literal["exact", "semantic"]
    similarity: float | None
    answer: RememberedAnswer


class Retrieved(BaseModel):
    """Either a cached answer, or passages (none, if nothing `covered` the question)."""

    outcome: Literal["hit", "lead"]
    scope: str
    flight: str
    hit: Hit | None
    passages: list[Passage]
    covered: bool
    sources_as_of: date | None


class Retrieval(BaseModel):
    """A question, and everything that decides which cached answers may serve it."""

    game: str
    locale: str
    patch: str
    prompt_version: str
    model: str
    context: dict[str, str]
    question: str
    cross_lingual: bool
    use_cache: bool


class _Remembered(BaseModel):
    stored: bool


class _Forgotten(BaseModel):
    forgotten: int


def asker(user_id: UUID) -> str:
    """A person towards rag, whose caches hold no id of anybody."""
    return hashlib.sha256(f"asker:{user_id}".encode()).hexdigest()


class RagClient:
    """rag over HTTP; failures are those of `common.http.call`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def retrieve(self, retrieval: Retrieval) -> Retrieved:
        """A cached answer or the best passages."""
        return await call(self._client, "POST", "/retrieve", Retrieved, json=retrieval.model_dump())

    async def remember(
        self, found: Retrieved, question: str, answer: RememberedAnswer, cited: Iterable[Passage], user_id: UUID
    ) -> bool:
        """Offer an answer to the caches; False when rag declined, because its sources have changed for one."""
        documents = sorted({(passage.document_id, passage.version) for passage in cited})
        body = {
            "scope": found.scope,
            "flight": found.flight,
            "question": question,
            "answer": answer.model_dump(mode="json"),
            "cited": [{"document_id": document, "version": version} for document, version in documents],
            "asker": asker(user_id),
        }
        reply = await call(self._client, "POST", "/remember", _Remembered, json=body)
        return reply.stored

    async def forget(self, user_id: UUID) -> int:
        """Forget every cached answer that was made for this person; how many there were."""
        body, path = {"asker": asker(user_id)}, "/internal/answers/forget"
        reply = await call(self._client, "POST", path, _Forgotten, json=body, timeout=FORGET_SECONDS)
        return reply.forgotten
