"""Stand-ins for the services that the worker calls, as far as it calls them."""

import json
from collections.abc import Callable
from typing import Any

from standins.standin import Exchange, Reply, Standin

DOCUMENTS = "/internal/documents"
COMPLETIONS = "/internal/completions"


def problem(status: int, code: str) -> Reply:
    """A problem document, as our services send it."""
    return Reply(status=status, body=json.dumps({"code": code, "title": code, "detail": code}))


class RagStandin(Standin):
    """Keeps the newest version of every document it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.routes |= {("PUT", DOCUMENTS): self._publish}
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}

    def of(self, game: str) -> list[dict[str, Any]]:
        """The documents of one game."""
        return [document for (its_game, _), document in self.stored.items() if its_game == game]

    async def _publish(self, exchange: Exchange) -> None:
        game, documents = exchange.call.body["game"], exchange.call.body["documents"]
        await exchange.answer_json({"documents": [self._store(game, document) for document in documents]})

    def _store(self, game: str, document: dict[str, Any]) -> dict[str, Any]:
        before = self.stored.get((game, document["key"]))
        self.stored[game, document["key"]] = document
        state = "created" if before is None else "unchanged" if before["sha256"] == document["sha256"] else "replaced"
        return {"key": document["key"], "state": state, "chunks": len(document["chunks"])}


class CoachStandin(Standin):
    """Has no model, until `answer` is set; an idempotency key is answered once and then from memory."""

    def __init__(self) -> None:
        super().__init__()
        self.routes |= {("POST", COMPLETIONS): self._complete}
        self.answer: Callable[[dict[str, Any]], str] | None = None
        self.completions: dict[str, str] = {}

    def clear(self) -> None:
        super().clear()
        self.answer = None
        self.completions.clear()

    async def _complete(self, exchange: Exchange) -> None:
        asked: dict[str, Any] = exchange.call.body
        if self.answer is None:
            await exchange.answer_json({"code": "model_not_configured", "title": "", "detail": ""}, 503)
            return
        text = self.completions.setdefault(asked["idempotency_key"], self.answer(asked))
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        await exchange.answer_json(
            {"id": asked["idempotency_key"], "text": text, "model": "test-model", "usage": usage}
        )
