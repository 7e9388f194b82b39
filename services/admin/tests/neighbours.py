"""Stand-ins for the services behind the ops API."""

import json
from typing import Any
from uuid import uuid4

from standins.standin import Exchange, Reply, Standin

JOB = {
    "id": str(uuid4()),
    "kind": "document.ingest",
    "state": "queued",
    "progress": 0.0,
    "done": 0,
    "total": None,
    "eta_seconds": None,
    "error": None,
    "attempts": 0,
    "created_at": "2026-10-01T00:00:00Z",
    "finished_at": None,
    "result": None,
}
DOCUMENT = {
    "id": str(uuid4()),
    "game": "wesnoth",
    "key": "file:en:guide.md",
    "locale": "en",
    "patch": None,
    "kind": "markdown",
    "title": "Archers",
    "source": "guide.md",
    "licence": "CC0-1.0",
    "url": None,
    "as_of": "2026-10-01",
    "version": 1,
    "chunks": 1,
    "created_at": "2026-10-01T00:00:00Z",
    "updated_at": "2026-10-01T00:00:00Z",
}
FIGURES = {
    "questions": 7,
    "players": 3,
    "cost_usd": "0.0012",
    "saved_usd": "0.0004",
    "unpriced": 0,
    "hit_rate": {"exact": 0.25, "semantic": 0.125},
    "degraded": 1,
    "not_covered": 2,
    "latency_ms": {"p50": 12.5, "p95": 900.0},
}
STATS = {"from": "2026-10-01", "to": "2026-10-02", "totals": FIGURES, "series": [{"key": "2026-10-01", **FIGURES}]}


class Neighbour(Standin):
    """A service that gives fixed answers."""

    def answers(self, method: str, path: str, body: object, status: int = 200) -> None:
        """From now on, to this call."""

        async def answer(exchange: Exchange) -> None:
            if status == 204:
                await exchange.answer(204, "")
            else:
                await exchange.answer_json(body, status)

        self.routes[method, path] = answer

    def refuses(self, path: str, status: int, code: str, **members: Any) -> None:
        """The next call, with a problem document."""
        document = {"code": code, "title": code, "detail": f"because of {code}", **members}
        self.script(path, Reply(status=status, body=json.dumps(document)))
