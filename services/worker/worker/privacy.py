"""What the worker holds of a person: that they uploaded a file. Given out, and put under a pseudonym.

A job, a broker message and a failure name an upload or each other, never a person. The files are their game's.
"""

import logging
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from worker.models import Upload

logger = logging.getLogger(__name__)

PAGE = 200


class UploadRecord(BaseModel):
    """A file and what was said about it, without its content."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    created_at: datetime
    filename: str
    game: str
    kind: str
    locale: str | None
    title: str | None
    source: str | None
    licence: str | None
    patch: str | None
    url: str | None
    size: int
    sha256: str


class ExportPage(BaseModel):
    """Some of a person's records, oldest first; `next_cursor` is null on the last page."""

    records: list[UploadRecord]
    next_cursor: UUID | None


class Erase(BaseModel):
    """What stands in the place of the person's id from now on."""

    pseudonym: UUID


async def export_page(session: AsyncSession, user_id: UUID, cursor: UUID | None) -> ExportPage:
    """The person's uploads after `cursor`."""
    shown = [col(getattr(Upload, name)) for name in UploadRecord.model_fields]
    oldest = select(*shown).where(Upload.uploaded_by == user_id).order_by(col(Upload.id)).limit(PAGE + 1)
    if cursor:
        oldest = oldest.where(col(Upload.id) > cursor)
    rows = (await session.exec(oldest)).all()
    records = [UploadRecord.model_validate(row) for row in rows[:PAGE]]
    return ExportPage(records=records, next_cursor=records[-1].id if len(rows) > PAGE else None)


async def erase(session: AsyncSession, user_id: UUID, pseudonym: UUID) -> None:
    """Put the person's uploads under the pseudonym; a repetition finds none."""
    theirs = update(Upload).where(col(Upload.uploaded_by) == user_id)
    result = await session.exec(theirs.values(uploaded_by=pseudonym))
    logger.info("person erased", extra={"uploads": result.rowcount})
