"""What the worker asks of rag and coach, and the fields it reads in their replies."""

from datetime import date
from typing import Literal

import httpx
from pydantic import BaseModel

from common.errors import UnavailableError
from common.http import call
from worker.models import Locale
from worker.parse import Chunk


class Document(BaseModel):
    """One document as rag indexes it; `sha256` covers all that makes it another version."""

    key: str
    locale: Locale
    patch: str | None
    kind: Literal["text", "markdown", "jsonl", "subtitle", "summary"]
    title: str
    source: str
    licence: str
    url: str | None
    sha256: str
    as_of: date | None
    chunks: list[Chunk]


class Indexed(BaseModel):
    """What rag did with one document."""

    key: str
    state: Literal["created", "replaced", "unchanged"]
    chunks: int


class _Published(BaseModel):
    documents: list[Indexed]


class RagClient:
    """Documents go to rag."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def publish(self, game: str, documents: list[Document]) -> list[Indexed]:
        """Index one batch; the same batch again changes nothing."""
        batch = [
            {**document.model_dump(mode="json"), "chunks": [chunk._asdict() for chunk in document.chunks]}
            for document in documents
        ]
        reply = await call(
            self._http, "PUT", "/internal/documents", _Published, json={"game": game, "documents": batch}
        )
        return reply.documents


class Completion(BaseModel):
    """A model's text."""

    text: str
    model: str


class CoachClient:
    """Every word of a model comes through coach, which keeps budget and ledger."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def complete(
        self, *, key: str, game: str, locale: Locale, system: str, prompt: str, max_tokens: int
    ) -> Completion | None:
        """The model's answer; the same `key` again is neither run nor paid twice. None where no model is set up."""
        body = {
            "idempotency_key": key,
            "game": game,
            "locale": locale,
            "system": system,
            "prompt": prompt,
            "max_tokens": max_tokens,
        }
        try:
            return await call(self._http, "POST", "/internal/completions", Completion, json=body)
        except UnavailableError as error:
            if error.code == "model_not_configured":
                return None
            raise
