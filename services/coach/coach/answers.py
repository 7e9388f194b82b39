"""Stored answers: what was replied to whom, what it cost, and what the asker thought of it."""

from typing import Any
from uuid import UUID

from opentelemetry import trace
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from coach import claims
from coach.clients import Retrieved
from coach.models import Answer, Feedback
from coach.question import Question
from coach.shapes import AnswerPublic, FeedbackCreate, History, HistoryItem, UsagePublic
from coach.writing import Written
from common.db import Sessions, utc_now
from common.errors import NotFoundError


async def store(
    sessions: Sessions, question: Question, found: Retrieved, written: Written, *, answer_id: UUID, latency_ms: int
) -> AnswerPublic:
    """Keep the answer, settle its idempotency key, and give the reply."""
    row = _row(question, found, written, answer_id=answer_id, latency_ms=latency_ms)
    async with sessions.begin() as session:
        session.add(row)
        if question.idempotency_key:
            await claims.settle(session, claims.asker(question.user_id), question.idempotency_key, row.id)
    return AnswerPublic(**_public(row))


async def load(sessions: Sessions, user_id: UUID, answer_id: UUID) -> AnswerPublic:
    """A reply given earlier, letter for letter."""
    async with sessions() as session:
        return AnswerPublic(**_public(await _own(session, user_id, answer_id)))


async def show(session: AsyncSession, user_id: UUID, answer_id: UUID) -> HistoryItem:
    """One answer of the user; anyone else's is not found."""
    row = await _own(session, user_id, answer_id)
    return _item(row, await session.get(Feedback, answer_id))


async def history(session: AsyncSession, user_id: UUID, cursor: UUID | None, limit: int) -> History:
    """A page of the user's answers, newest first, below `cursor`."""
    newest = (
        select(Answer, Feedback)
        .outerjoin(Feedback, col(Feedback.answer_id) == col(Answer.id))
        .where(Answer.user_id == user_id)
        .order_by(col(Answer.id).desc())
        .limit(limit + 1)
    )
    if cursor:
        newest = newest.where(col(Answer.id) < cursor)
    rows = (await session.exec(newest)).all()
    items = [_item(row, feedback) for row, feedback in rows[:limit]]
    return History(items=items, next_cursor=items[-1].id if len(rows) > limit else None)


async def rate(session: AsyncSession, user_id: UUID, answer_id: UUID, feedback: FeedbackCreate) -> None:
    """Keep the asker's verdict; it replaces an earlier one."""
    # Locked, or a comment could be left on an answer whose asker is erased at this moment.
    await _own(session, user_id, answer_id, with_for_update={"read": True})
    values = {"verdict": feedback.verdict, "comment": feedback.comment or None, "updated_at": utc_now()}
    statement = insert(Feedback).values(answer_id=answer_id, **values)
    await session.exec(statement.on_conflict_do_update(index_elements=["answer_id"], set_=values))


async def _own(session: AsyncSession, user_id: UUID, answer_id: UUID, **options: Any) -> Answer:
    row = await session.get(Answer, answer_id, **options)
    if row is None or row.user_id != user_id:
        raise NotFoundError
    return row


def _row(question: Question, found: Retrieved, written: Written, *, answer_id: UUID, latency_ms: int) -> Answer:
    span = trace.get_current_span().get_span_context()
    hit, usage = found.hit, written.usage
    return Answer(
        id=answer_id,
        user_id=question.user_id,
        conversation_id=question.conversation_id,
        game=question.game.slug,
        locale=question.locale,
        patch=question.game.patch,
        question=question.text,
        answer=written.text,
        citations=[citation.model_dump(mode="json") for citation in written.citations],
        is_cached=hit is not None,
        cache=hit.cache if hit else "miss",
        similarity=hit.similarity if hit else None,
        degraded=written.degraded,
        covered=hit is not None or found.covered,
        model=written.model,
        prompt_version=question.prompt.version,
        sources_as_of=hit.answer.sources_as_of if hit else found.sources_as_of,
        prompt_tokens=usage.prompt_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usage_estimated=usage.estimated,
        cost_usd=written.cost_usd,
        saved_usd=written.saved_usd,
        ttft_ms=written.ttft_ms,
        latency_ms=latency_ms,
        trace_id=trace.format_trace_id(span.trace_id) if span.is_valid else None,
        created_at=utc_now(),
    )


def _public(row: Answer) -> dict[str, object]:
    usage = UsagePublic(prompt_tokens=row.prompt_tokens, completion_tokens=row.completion_tokens, cost_usd=row.cost_usd)
    return {**row.model_dump(include=AnswerPublic.model_fields.keys() - {"usage"}), "usage": usage}


def _item(row: Answer, feedback: Feedback | None) -> HistoryItem:
    return HistoryItem(
        **_public(row),
        question=row.question,
        conversation_id=row.conversation_id,
        feedback=feedback.verdict if feedback else None,
    )
