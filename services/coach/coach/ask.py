"""The story of a question, from its text to its answer."""

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Counter

from coach import answers, claims, extractive
from coach.clients import RagClient, RememberedAnswer, Retrieved
from coach.llm import LLM
from coach.prompts import Prompts
from coach.question import Question
from coach.settings import Settings
from coach.shapes import AnswerPublic, Cache, Meta, QuestionCost
from coach.streams import Tell, tell_text
from coach.writing import Written, repeat, say_not_covered, write
from common.db import Sessions, uuid7
from common.errors import AppError

logger = logging.getLogger(__name__)

# Beyond the longest a question can take: a claim still held by then belongs to a process that died.
CLAIM_MARGIN_SECONDS = 60

answered = Counter("coach_answers_total", "Answers by game, cache tier and who wrote them", ["game", "cache", "writer"])
remember_failures = Counter("coach_remember_failures_total", "Answers that did not reach the caches", ["reason"])


@dataclass(frozen=True)
class Coach:
    """What every question needs, made once at start; without a key there is no `llm`."""

    settings: Settings
    sessions: Sessions
    rag: RagClient
    prompts: Prompts
    llm: LLM | None


async def answer_once(question: Question, coach: Coach, tell: Tell) -> AnswerPublic:
    """`answer`; for an idempotency key that has its reply already, that reply, unpaid."""
    if question.idempotency_key is None:
        return await answer(question, coach, tell)
    owner, key = claims.asker(question.user_id), question.idempotency_key
    lease = timedelta(seconds=coach.settings.model_deadline + CLAIM_MARGIN_SECONDS)
    earlier = await claims.take(coach.sessions, owner, key, claims.digest(question.identity()), lease)
    if earlier:
        return await retell(await answers.load(coach.sessions, question.user_id, earlier), tell)
    try:
        return await answer(question, coach, tell)
    except BaseException:
        await claims.release(coach.sessions, owner, key)
        raise


async def answer(question: Question, coach: Coach, tell: Tell) -> AnswerPublic:
    """Found in a cache, not covered, or written; then remembered, then stored. No session is open in between."""
    started, answer_id = time.perf_counter(), uuid7()

    found = await coach.rag.retrieve(question.retrieval())
    cache: Cache = found.hit.cache if found.hit else "miss"
    cost: QuestionCost = "0.1" if found.hit else "1"
    await tell("meta", Meta(id=answer_id, cache=cache, patch=question.game.patch, question_cost=cost))

    if found.hit:
        written = await repeat(found.hit.answer, tell)
    elif not found.covered:
        written = await say_not_covered(question.locale, tell)
    else:
        written = await write(question, found, coach.llm, tell)
        await remember(question, found, written, coach)

    for citation in written.citations:
        await tell("citation", citation)
    latency_ms = round((time.perf_counter() - started) * 1000)
    reply = await answers.store(coach.sessions, question, found, written, answer_id=answer_id, latency_ms=latency_ms)
    note(reply)
    return reply


async def remember(question: Question, found: Retrieved, written: Written, coach: Coach) -> None:
    """Offer a whole, cited answer that is nobody's own to the caches; a failure costs the player nothing."""
    if question.private_context or written.degraded or not written.citations or written.model is None:
        return
    remembered = RememberedAnswer(
        answer=written.text,
        citations=written.citations,
        model=written.model,
        sources_as_of=found.sources_as_of,
        cost_usd=written.cost_usd,
    )
    cited = [found.passages[citation.marker - 1] for citation in written.citations]
    try:
        async with asyncio.timeout(coach.settings.remember_timeout):
            await coach.rag.remember(found, question.text, remembered, cited, question.user_id)
    except (AppError, TimeoutError) as error:
        remember_failures.labels(type(error).__name__).inc()
        logger.warning("answer not remembered", extra={"reason": type(error).__name__})


async def retell(reply: AnswerPublic, tell: Tell) -> AnswerPublic:
    """A stored reply, told as it was."""
    await tell("meta", Meta(id=reply.id, cache=reply.cache, patch=reply.patch, question_cost="0"))
    await tell_text(reply.answer, tell)
    for citation in reply.citations:
        await tell("citation", citation)
    return reply


def note(reply: AnswerPublic) -> None:
    """Count and log what happened; never what was asked."""
    writer = "nobody" if reply.model is None else "quotes" if reply.model == extractive.MODEL else "model"
    answered.labels(reply.game, reply.cache, "degraded" if reply.degraded else writer).inc()
    extra = {
        "answer_id": str(reply.id),
        "game": reply.game,
        "cache": reply.cache,
        "similarity": reply.similarity,
        "covered": reply.covered,
        "latency_ms": reply.latency_ms,
    }
    logger.info("answered", extra=extra)
