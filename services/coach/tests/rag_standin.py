"""A scripted rag over real HTTP: finds what a test says, and keeps what it is asked to remember."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

from standins.calls import Call
from standins.standin import Exchange, Reply, Standin, run

RETRIEVE = "/retrieve"
REMEMBER = "/remember"
FORGET = "/internal/answers/forget"

ARCHER = {
    "document_id": "doc-archer",
    "version": 3,
    "chunk_id": "chunk-archer",
    "title": "Elvish Archer",
    "text": "Elvish Archer. Level 1, cost 17. It is weak in melee: its sword does 5-2. Cavalry reaches it quickly.",
    "source": "wesnoth 1.16",
    "licence": "GPL-2.0-or-later",
    "url": None,
    "locale": "en",
    "start_ms": None,
    "end_ms": None,
    "score": 0.8,
}
CAVALRY = ARCHER | {
    "document_id": "doc-cavalry",
    "version": 1,
    "chunk_id": "chunk-cavalry",
    "title": "Cavalryman",
    "text": "Cavalryman. Level 1, cost 17. Cavalrymen resist blade attacks and are good against archers.",
    "url": "https://example.org/cavalryman",
    "start_ms": 61_000,
}


class RagStandin(Standin):
    """Knows two passages about every question until told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.routes |= {("POST", RETRIEVE): self._retrieve, ("POST", REMEMBER): self._remember}
        self.routes |= {("POST", FORGET): self._forget}
        self.clear()

    def clear(self) -> None:
        """Forget calls, script and what a test said."""
        super().clear()
        self.passages: list[dict[str, Any]] = [ARCHER, CAVALRY]
        self.hit: dict[str, Any] | None = None

    def knows_nothing(self) -> None:
        """No passage comes near any question."""
        self.passages = []

    def has_cached(self, answer: Mapping[str, Any], *, cache: str = "exact", similarity: float | None = None) -> None:
        """The caches hold this answer to every question."""
        self.hit = {"cache": cache, "similarity": similarity, "answer": dict(answer)}

    def is_down(self, path: str = RETRIEVE) -> None:
        """One call of `path` finds rag unavailable."""
        self.script(path, Reply(status=503, body="{}"))

    @property
    def retrievals(self) -> list[Call]:
        """Questions asked."""
        return [call for call in self.calls if call.path == RETRIEVE]

    @property
    def remembered(self) -> list[Any]:
        """Bodies of `/remember`."""
        return [call.body for call in self.calls if call.path == REMEMBER]

    @property
    def forgotten(self) -> list[Any]:
        """Bodies of what was to be forgotten."""
        return [call.body for call in self.calls if call.path == FORGET]

    async def _retrieve(self, exchange: Exchange) -> None:
        hit = self.hit if exchange.call.body["use_cache"] else None
        reply = {
            "outcome": "hit" if hit else "lead",
            "scope": "scope-1",
            "flight": "flight-1",
            "hit": hit,
            "passages": [] if hit else self.passages,
            "covered": bool(hit or self.passages),
            "sources_as_of": date(2026, 10, 1).isoformat(),
        }
        await exchange.answer_json(reply)

    async def _remember(self, exchange: Exchange) -> None:
        await exchange.answer_json({"stored": True, "reason": None})

    async def _forget(self, exchange: Exchange) -> None:
        await exchange.answer_json({"forgotten": 1})


@contextmanager
def run_rag() -> Iterator[RagStandin]:
    """A running rag for a `with` block."""
    with run(RagStandin()) as rag:
        yield rag
