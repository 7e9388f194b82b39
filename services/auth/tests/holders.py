"""A service that holds something of persons, scripted: what it gives out, and whom it was told to erase."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from fastapi import FastAPI, HTTPException, Request
from jose import jwt

from standins.server import Server, serve


class Erased(NamedTuple):
    """One order to erase."""

    user_id: UUID
    pseudonym: UUID
    scope: str


class HolderStandin:
    """Has no records and erases at once until told otherwise; `server` can be stopped and started again."""

    def __init__(self) -> None:
        self.server: Server
        self.clear()

    def clear(self) -> None:
        """Forget orders and script."""
        self.pages: list[list[dict[str, Any]]] = [[]]
        self.broken_from_page = 1_000
        self.broken = False
        self.erased: list[Erased] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def app(self) -> FastAPI:
        """Its two routes."""
        app = FastAPI()

        @app.get("/internal/users/{user_id}/export")
        def export(user_id: UUID, cursor: int = 0) -> dict[str, Any]:
            if cursor >= self.broken_from_page:
                raise HTTPException(500)
            more = cursor + 1 < len(self.pages)
            return {"records": self.pages[cursor], "next_cursor": str(cursor + 1) if more else None}

        @app.post("/internal/users/{user_id}/erase", status_code=204)
        def erase(user_id: UUID, body: dict[str, UUID], request: Request) -> None:
            claims = jwt.get_unverified_claims(request.headers["authorization"].removeprefix("Bearer "))
            self.erased.append(Erased(user_id, body["pseudonym"], f"{claims['aud']} {claims['scope']}"))
            self.go_on.wait(10)
            if self.broken:
                raise HTTPException(500)

        return app


@contextmanager
def run_holders() -> Iterator[dict[str, HolderStandin]]:
    """Coach, worker and admin for a `with` block."""
    with ExitStack() as stack:
        holders = {name: HolderStandin() for name in ("coach", "worker", "admin")}
        for holder in holders.values():
            holder.server = stack.enter_context(serve(holder.app()))
        yield holders
