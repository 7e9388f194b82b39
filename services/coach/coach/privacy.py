"""What coach holds of a person: their answers with feedback, and idempotency keys. Given out, and erased."""

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import and_
from sqlmodel import col, delete, select, update

from coach import claims
from coach.clients import RagClient
from coach.models import Answer, Claim, Feedback
from coach.shapes import Cache, Citation, Money, Verdict
from common.db import Sessions

logger = logging.getLogger(__name__)

PAGE = 100
ERASED_AT_ONCE = 500
# A trace leads to logs of that request.
BLANK: dict[str, Any] = {"question": "", "answer": "", "citations": [], "conversation_id": None, "trace_id": None}


class AnswerRecord(BaseModel):
    """All that is kept of one answer."""

    id: UUID
    created_at: datetime
    game: str
    locale: str
    patch: str
    conversation_id: UUID | None
    question: str
    answer: str
    citations: list[Citation]
    model: str | None
    cache: Cache
    degraded: bool
    covered: bool
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Money | None
    latency_ms: int
    trace_id: str | None
    feedback: Verdict | None
    feedback_comment: str | None
    idempotency_key: str | None


class ExportPage(BaseModel):
    """Some of a person's records, oldest first; `next_cursor` is null on the last page."""

    records: list[AnswerRecord]
    next_cursor: UUID | None


class Erase(BaseModel):
    """What stands in the place of the person's id from now on."""

    pseudonym: UUID


async def export_page(sessions: Sessions, user_id: UUID, cursor: UUID | None) -> ExportPage:
    """The person's answers after `cursor`."""
    keyed = and_(col(Claim.owner) == claims.asker(user_id), col(Claim.result_id) == col(Answer.id))
    oldest = (
        select(Answer, Feedback, Claim.key)
        .outerjoin(Feedback, col(Feedback.answer_id) == col(Answer.id))
        .outerjoin(Claim, keyed)
        .where(Answer.user_id == user_id)
        .order_by(col(Answer.id))
        .limit(PAGE + 1)
    )
    if cursor:
        oldest = oldest.where(col(Answer.id) > cursor)
    async with sessions() as session:
        rows = (await session.exec(oldest)).all()
    records = [_record(answer, feedback, key) for answer, feedback, key in rows[:PAGE]]
    return ExportPage(records=records, next_cursor=records[-1].id if len(rows) > PAGE else None)


def _record(answer: Answer, feedback: Feedback | None, idempotency_key: str | None) -> AnswerRecord:
    return AnswerRecord(
        **answer.model_dump(include=set(AnswerRecord.model_fields)),
        feedback=feedback.verdict if feedback else None,
        feedback_comment=feedback.comment if feedback else None,
        idempotency_key=idempotency_key,
    )


async def erase(sessions: Sessions, rag: RagClient, user_id: UUID, pseudonym: UUID) -> None:
    """Remove all words and ids of a person. What they cost stays, under the pseudonym: the bills must still add up.

    May be repeated at any point: each batch is a transaction of its own, and what is erased is not found again.
    """
    await rag.forget(user_id)
    erased = 0
    while batch := await _erase_batch(sessions, user_id, pseudonym):
        erased += batch
    async with sessions.begin() as session:
        await session.exec(delete(Claim).where(col(Claim.owner) == claims.asker(user_id)))
    logger.info("person erased", extra={"answers": erased})


async def _erase_batch(sessions: Sessions, user_id: UUID, pseudonym: UUID) -> int:
    theirs = select(Answer.id).where(Answer.user_id == user_id).limit(ERASED_AT_ONCE).with_for_update()
    async with sessions.begin() as session:
        ids = (await session.exec(theirs)).all()
        await session.exec(update(Feedback).where(col(Feedback.answer_id).in_(ids)).values(comment=None))
        await session.exec(update(Answer).where(col(Answer.id).in_(ids)).values(user_id=pseudonym, **BLANK))
    return len(ids)
