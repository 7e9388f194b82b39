"""What the audit holds of a person: what they did, and what was done to them. Given out, and put under a pseudonym."""

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import String, cast, func, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from admin.models import Audit, Outcome

logger = logging.getLogger(__name__)

PAGE = 200
# Of changes to an account: free words about a person, which say nothing without that person.
REASON = "reason"


class ChangeRecord(BaseModel):
    """A change made by the person (`by_you`), or by an operator to their account.

    What they did to somebody else's account is that person's to see: its `target`, `before` and `after` are null.
    """

    id: UUID
    at: datetime
    action: str
    by_you: bool
    target: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    outcome: Outcome


class ExportPage(BaseModel):
    """Some of a person's records, oldest first; `next_cursor` is null on the last page."""

    records: list[ChangeRecord]
    next_cursor: UUID | None


class Erase(BaseModel):
    """What stands in the place of the person's id from now on."""

    pseudonym: UUID


async def export_page(session: AsyncSession, user_id: UUID, cursor: UUID | None) -> ExportPage:
    """The changes by or to the person, after `cursor`."""
    theirs = or_(col(Audit.actor_id) == user_id, col(Audit.target) == str(user_id))
    oldest = select(Audit).where(theirs).order_by(col(Audit.id)).limit(PAGE + 1)
    if cursor:
        oldest = oldest.where(col(Audit.id) > cursor)
    rows = (await session.exec(oldest)).all()
    records = [_record(row, user_id) for row in rows[:PAGE]]
    return ExportPage(records=records, next_cursor=records[-1].id if len(rows) > PAGE else None)


def _record(row: Audit, user_id: UUID) -> ChangeRecord:
    shown = row.model_dump(include={"id", "at", "action", "target", "before", "after", "outcome"})
    if row.action.startswith("user.") and row.target != str(user_id):
        shown |= {"target": None, "before": None, "after": None}
    return ChangeRecord(**shown, by_you=row.actor_id == user_id)


async def erase(session: AsyncSession, user_id: UUID, pseudonym: UUID) -> None:
    """Put the pseudonym in the place of the person's id; a repetition finds nothing."""
    person, stand_in = str(user_id), str(pseudonym)
    about, by = col(Audit.target) == person, col(Audit.actor_id) == user_id
    words = {name: getattr(Audit, name).op("-")(REASON) for name in ("before", "after")}
    await session.exec(update(Audit).where(about).values(**words))
    renamed = {name: cast(func.replace(cast(getattr(Audit, name), String), person, stand_in), JSONB) for name in words}
    # A request's id leads to its logs, and callers may choose it.
    await session.exec(update(Audit).where(or_(about, by)).values(**renamed, request_id=None))
    await session.exec(update(Audit).where(about).values(target=stand_in))
    await session.exec(update(Audit).where(by).values(actor_id=pseudonym))
    logger.info("person erased")
