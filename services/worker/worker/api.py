"""Routes for the admin service: uploads, jobs, queues; and for auth: what is held of a person."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from common.db import SessionDep
from common.errors import problem_responses
from common.identity import require_scope
from worker import jobs, privacy, queues, uploads
from worker.deps import ActingAdmin, BrokerDep, ConsumersDep, SettingsDep
from worker.models import JobList, JobPublic, JobState, Queues, UploadCreate

router = APIRouter(
    prefix="/internal",
    dependencies=[Depends(require_scope("worker:ops"))],
    responses=problem_responses(401, 403, 503),
)


@router.post("/uploads", status_code=202, responses=problem_responses(413, 415, 422))
async def create_upload(
    said: Annotated[UploadCreate, Query()],
    request: Request,
    admin: ActingAdmin,
    session: SessionDep,
    settings: SettingsDep,
) -> JobPublic:
    """Store the body as a file and order its ingestion."""
    content = await uploads.read_body(request.stream(), settings.upload_max_bytes)
    return await uploads.accept(session, said, content, admin.id)


@router.get("/jobs")
async def list_jobs(session: SessionDep, state: JobState | None = None, before: UUID | None = None) -> JobList:
    """Jobs, newest first."""
    return await jobs.list_jobs(session, state, before)


@router.get("/jobs/{job_id}", responses=problem_responses(404))
async def read_job(job_id: UUID, session: SessionDep) -> JobPublic:
    """How far a job is."""
    return await jobs.read_job(session, job_id)


@router.get("/queues")
async def read_queues(session: SessionDep, broker: BrokerDep, consumers: ConsumersDep) -> Queues:
    """All queues at this moment."""
    return await queues.read_queues(session, broker, consumers)


privacy_router = APIRouter(
    prefix="/internal/users",
    dependencies=[Depends(require_scope("worker:privacy"))],
    responses=problem_responses(401, 403, 422, 503),
)


@privacy_router.get("/{user_id}/export")
async def export_user(user_id: UUID, session: SessionDep, cursor: UUID | None = None) -> privacy.ExportPage:
    """A page of all that is kept of a person."""
    return await privacy.export_page(session, user_id, cursor)


@privacy_router.post("/{user_id}/erase", status_code=204)
async def erase_user(user_id: UUID, body: privacy.Erase, session: SessionDep) -> None:
    """Erase a person; a repetition does nothing more."""
    await privacy.erase(session, user_id, body.pseudonym)
