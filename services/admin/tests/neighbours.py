"""Stand-ins for the services behind the ops API."""

import json
from typing import Any, NamedTuple
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from common.identity import ACTOR_HEADER
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

USER = {
    "id": str(uuid4()),
    "issuer": "https://accounts.google.com",
    "email": "jinx@example.com",
    "name": "징크스",
    "locale": "ko",
    "role": "player",
    "plan": "free",
    "status": "active",
    "created_at": "2026-10-01T00:00:00Z",
    "last_login_at": "2026-10-01T00:00:00Z",
}
USER_DETAIL = {
    **USER,
    "sessions": [{"sid": str(uuid4()), "created_at": "2026-10-01T00:00:00Z", "last_used_at": "2026-10-01T00:00:00Z"}],
    "audit": [
        {
            "id": str(uuid4()),
            "at": "2026-10-01T00:00:00Z",
            "actor": "development",
            "action": "user.granted",
            "detail": {},
        }
    ],
}
KEY = {
    "kid": str(uuid4()),
    "state": "active",
    "since": "2026-10-01T00:00:00Z",
    "signs_from": None,
    "kept_until": None,
}


class Asked(NamedTuple):
    """A call that auth got for a person."""

    method: str
    path: str
    body: object
    actor: str


class AuthOps:
    """Auth's part of the ops API, added to a stand-in for auth: gives fixed answers."""

    def __init__(self, auth: FastAPI) -> None:
        self.calls: list[Asked] = []
        self._answers: dict[tuple[str, str], JSONResponse] = {}
        for path in ("/internal/users/{rest:path}", "/internal/keys", "/internal/keys/{rest:path}"):
            auth.add_api_route(path, self._answer, methods=["GET", "POST", "PATCH", "DELETE"])

    def clear(self) -> None:
        """Nothing asked, nothing to answer."""
        self.calls.clear()
        self._answers.clear()

    def answers(self, method: str, path: str, body: object, status: int = 200) -> None:
        """From now on, to this call."""
        self._answers[method, path] = JSONResponse(body, status)

    async def _answer(self, request: Request) -> Response:
        method, path, body = request.method, request.url.path, await request.body()
        actor = request.headers.get(ACTOR_HEADER, "")
        self.calls.append(Asked(method, path, json.loads(body) if body else None, actor))
        return self._answers.get((method, path), JSONResponse({}, 404))


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
