"""The ops API: viewers read, admins also change."""

from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Query, Request

from admin import documents, games, stats
from admin.deps import Admin, AuthDep, CoachDep, RagDep, SessionsDep, SettingsDep, Viewer, WorkerDep, no_store
from admin.models import (
    By,
    DocumentDetail,
    DocumentPage,
    GameList,
    GameSettings,
    Job,
    JobList,
    JobState,
    NewGameSettings,
    Queues,
    Stats,
)
from admin.uploads import OPENAPI, read_form
from common.errors import problem_responses

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    dependencies=[Depends(no_store)],
    responses=problem_responses(401, 403, 422, 502, 503, 504),
)

Slug = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


@router.get("/stats")
async def read_stats(
    _: Viewer,
    coach: CoachDep,
    auth: AuthDep,
    settings: SettingsDep,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
    by: By = "day",
) -> Stats:
    """Figures from one day to another, both included; by default of the last 30 days."""
    return await stats.read_stats(first, last, by, coach, auth, settings.page_seconds)


@router.get("/queues")
async def read_queues(_: Viewer, worker: WorkerDep) -> Queues:
    """The queues of background jobs at this moment."""
    return await worker.queues()


@router.get("/jobs")
async def list_jobs(_: Viewer, worker: WorkerDep, state: JobState | None = None, before: UUID | None = None) -> JobList:
    """Background jobs, newest first."""
    return await worker.jobs(state, before)


@router.get("/jobs/{job_id}", responses=problem_responses(404))
async def read_job(job_id: UUID, _: Viewer, worker: WorkerDep) -> Job:
    """How far a job is."""
    return await worker.job(job_id)


@router.get("/documents")
async def list_documents(
    _: Viewer,
    rag: RagDep,
    game: Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = None,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DocumentPage:
    """Documents, newest first."""
    return await rag.documents(game, cursor, limit)


@router.post("/documents", status_code=202, openapi_extra=OPENAPI, responses=problem_responses(400, 413, 415))
async def upload_document(
    request: Request, admin: Admin, settings: SettingsDep, sessions: SessionsDep, worker: WorkerDep
) -> Job:
    """Upload a file (.jsonl, .srt, .vtt, .txt, .md) for a game; the reply is the job that ingests it."""
    async with read_form(request, settings.upload_max_bytes) as form:
        return await documents.upload(form, settings.upload_max_bytes, admin, sessions, worker)


@router.get("/documents/{document_id}", responses=problem_responses(404))
async def read_document(document_id: UUID, _: Viewer, rag: RagDep) -> DocumentDetail:
    """A document with its text."""
    return await rag.document(document_id)


@router.delete("/documents/{document_id}", status_code=204, responses=problem_responses(404))
async def delete_document(document_id: UUID, admin: Admin, sessions: SessionsDep, rag: RagDep) -> None:
    """Delete a document; no answer is made from it, or served that was, from then on."""
    await documents.delete(document_id, admin, sessions, rag)


@router.get("/games")
async def list_games(_: Viewer, coach: CoachDep) -> GameList:
    """All games as they are set up."""
    return GameList(games=await coach.games())


@router.put("/games/{slug}")
async def put_game(
    slug: Slug,
    admin: Admin,
    sessions: SessionsDep,
    coach: CoachDep,
    game: Annotated[NewGameSettings, Body()],
) -> GameSettings:
    """Create or replace a game: titles, languages, live patch, model and parameters, prompt template, context."""
    return await games.put(slug, game, admin, sessions, coach)
