"""What admin asks of the other services, and the fields it reads in their replies."""

from collections.abc import AsyncIterator
from datetime import date
from types import NoneType
from typing import Any
from uuid import UUID

import httpx
from pydantic import BaseModel, Field

from admin.models import (
    By,
    Document,
    DocumentDetail,
    DocumentPage,
    DocumentUpload,
    Figures,
    GameList,
    GameSettings,
    Job,
    JobList,
    JobState,
    Point,
    Queues,
)
from common.http import call
from common.identity import ACTOR_HEADER, User


def _acting(user: User) -> dict[str, str]:
    """The callee's own records shall name the person, not this service."""
    return {ACTOR_HEADER: user.token}


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


class Players(BaseModel):
    """Auth's counts."""

    premium_share: float


class CoachStats(BaseModel):
    """Coach's figures of a period."""

    first: date = Field(alias="from")
    last: date = Field(alias="to")
    totals: Figures
    series: list[Point]


class AuthClient:
    """Players are auth's."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def players(self) -> Players:
        """How many players pay."""
        return await call(self._http, "GET", "/internal/stats", Players)


class CoachClient:
    """Games and answers are coach's."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def stats(self, first: date | None, last: date | None, by: By) -> CoachStats:
        """Figures of a period."""
        params = _given(**{"from": first, "to": last, "by": by})
        return await call(self._http, "GET", "/internal/stats", CoachStats, params=params)

    async def games(self) -> list[GameSettings]:
        """All games."""
        return (await call(self._http, "GET", "/internal/games", GameList)).games

    async def put_game(self, slug: str, game: GameSettings, admin: User) -> GameSettings:
        """Create or replace a game."""
        path = f"/internal/games/{slug}"
        return await call(self._http, "PUT", path, GameSettings, json=game, headers=_acting(admin))


class RagClient:
    """Documents are rag's."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def documents(self, game: str | None, cursor: UUID | None, limit: int) -> DocumentPage:
        """A page of documents."""
        params = _given(game=game, cursor=cursor, limit=limit)
        return await call(self._http, "GET", "/internal/documents", DocumentPage, params=params)

    async def document(self, document_id: UUID) -> DocumentDetail:
        """One document with its text."""
        return await call(self._http, "GET", f"/internal/documents/{document_id}", DocumentDetail)

    async def delete_document(self, document: Document, admin: User) -> None:
        """Delete one document."""
        await call(self._http, "DELETE", f"/internal/documents/{document.id}", NoneType, headers=_acting(admin))


class WorkerClient:
    """Uploads, jobs and queues are the worker's."""

    def __init__(self, http: httpx.AsyncClient, upload_seconds: float) -> None:
        self._http = http
        self._upload_timeout = httpx.Timeout(upload_seconds, connect=2.0)

    async def upload(
        self, filename: str, said: DocumentUpload, size: int, content: AsyncIterator[bytes], admin: User
    ) -> Job:
        """Stream a file on; the job that ingests it."""
        params = {"filename": filename, **said.model_dump(exclude_none=True)}
        headers = {**_acting(admin), "Content-Length": str(size), "Content-Type": "application/octet-stream"}
        return await call(
            self._http,
            "POST",
            "/internal/uploads",
            Job,
            params=params,
            content=content,
            headers=headers,
            timeout=self._upload_timeout,
        )

    async def jobs(self, state: JobState | None, before: UUID | None) -> JobList:
        """A page of jobs."""
        return await call(self._http, "GET", "/internal/jobs", JobList, params=_given(state=state, before=before))

    async def job(self, job_id: UUID) -> Job:
        """One job."""
        return await call(self._http, "GET", f"/internal/jobs/{job_id}", Job)

    async def queues(self) -> Queues:
        """All queues."""
        return await call(self._http, "GET", "/internal/queues", Queues)
