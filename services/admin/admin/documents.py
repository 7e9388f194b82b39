"""Changes to the knowledge base, each with its row in the audit."""

from uuid import UUID

from admin.audit import audited
from admin.clients import RagClient, WorkerClient
from admin.models import Document, Job
from admin.uploads import Form, pieces
from common.db import Sessions
from common.errors import PayloadTooLargeError
from common.identity import User


async def upload(form: Form, max_bytes: int, admin: User, sessions: Sessions, worker: WorkerClient) -> Job:
    """Hand a file to the worker; the job that ingests it."""
    filename, size = form.file.filename or "", form.file.size or 0
    if size > max_bytes:
        raise PayloadTooLargeError
    async with audited(sessions, admin, "document.upload", form.said.game) as entry:
        entry.after = {"filename": filename, "size": size, **form.said.model_dump(exclude_defaults=True)}
        job = await worker.upload(filename, form.said, size, pieces(form.file), admin)
        entry.after = {**entry.after, "job_id": str(job.id)}
    return job


async def delete(document_id: UUID, admin: User, sessions: Sessions, rag: RagClient) -> None:
    """Take a document out of the knowledge base; raises NotFoundError."""
    document = Document.model_validate(await rag.document(document_id), from_attributes=True)
    before = document.model_dump(mode="json")
    async with audited(sessions, admin, "document.delete", str(document_id), before):
        await rag.delete_document(document, admin)
