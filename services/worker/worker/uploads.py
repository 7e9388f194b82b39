"""Takes a file in: checked, stored, and its ingestion ordered, all in one transaction."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from common.db import utc_now
from common.errors import InvalidError, PayloadTooLargeError, Text
from common.jobs import IngestDocument, enqueue
from worker import jobs
from worker.index import text_documents
from worker.models import Job, JobPublic, Outbox, Upload, UploadCreate
from worker.parse import decode, kind_of
from worker.subtitles import parse_subtitles


class LocaleMissingError(InvalidError):
    code = "locale_missing"
    title = Text("Say in which language the file is", "파일의 언어를 지정해 주세요")


async def read_body(stream: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """The whole body of a request; raises PayloadTooLargeError as soon as it is longer than `max_bytes`."""
    body = bytearray()
    async for piece in stream:
        body += piece
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    size = f"{max_bytes / 1024 / 1024:g} MiB"
    return PayloadTooLargeError(Text(f"A file may have {size} at most", f"파일은 {size}까지 등록할 수 있습니다"))


async def accept(session: AsyncSession, said: UploadCreate, content: bytes, uploaded_by: UUID) -> JobPublic:
    """The job that ingests the file: a new one, or the one that did or does so for the very same file."""
    upload = _upload(said, content, uploaded_by)
    await asyncio.to_thread(check, upload)
    upload_id = await _store(session, upload)
    # Whoever uploads the same at this moment waits here and then finds our job.
    await session.exec(select(Upload.id).where(Upload.id == upload_id).with_for_update())
    if not said.again and (known := await _known_job(session, upload_id)):
        return jobs.public(known, utc_now())
    job = Job(kind=IngestDocument.name, queue=IngestDocument.queue, upload_id=upload_id)
    session.add(job)
    await session.flush()
    await enqueue(session, Outbox, IngestDocument(job_id=job.id))
    return jobs.public(job, utc_now())


def check(upload: Upload) -> None:
    """Refuse at once what a job could only fail on later."""
    text = decode(upload.content)
    if upload.kind == "subtitle":
        parse_subtitles(text)
    else:
        text_documents(upload, text)


def _upload(said: UploadCreate, content: bytes, uploaded_by: UUID) -> Upload:
    kind = kind_of(said.filename)
    if said.locale is None and kind != "jsonl":
        raise LocaleMissingError
    described: dict[str, Any] = said.model_dump(mode="json", exclude={"again"})
    sha256 = hashlib.sha256(content).hexdigest()
    identity = json.dumps({**described, "sha256": sha256}, sort_keys=True)
    return Upload(
        **described,
        kind=kind,
        sha256=sha256,
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        size=len(content),
        content=content,
        uploaded_by=uploaded_by,
    )


async def _store(session: AsyncSession, upload: Upload) -> UUID:
    """The id under which the file is stored, by us or before."""
    row = insert(Upload).values(upload.model_dump()).on_conflict_do_nothing().returning(col(Upload.id))
    stored: UUID | None = await session.scalar(row)
    if stored is None:
        same = await session.exec(select(Upload.id).where(Upload.fingerprint == upload.fingerprint))
        stored = same.one()
    return stored


async def _known_job(session: AsyncSession, upload_id: UUID) -> Job | None:
    """The newest job of an upload, unless it failed."""
    newest = select(Job).where(Job.upload_id == upload_id).order_by(col(Job.id).desc()).limit(1)
    job = (await session.exec(newest)).first()
    return job if job and job.state != "failed" else None
