"""The story of a question: exact cache → embed once → semantic cache → passages."""

import logging
from typing import Literal

from prometheus_client import Counter
from redis import RedisError

from common.db import uuid7
from rag.answer_cache import Entry, Flight, note_fallback, question_id
from rag.calibrated import Calibration
from rag.decision import Asked, Decision, decide
from rag.freshness import stored_generation
from rag.passages import Finding, find_passages
from rag.resources import Resources
from rag.scope import scope_of
from rag.shapes import Cited, Hit, Retrieval, Retrieved

logger = logging.getLogger(__name__)

retrievals = Counter("rag_retrievals_total", "Questions by what they were given", ["outcome"])


async def retrieve(wanted: Retrieval, at: Resources) -> Retrieved:
    """A cached answer if one may serve, else passages; a cache that is away costs its use, never the question."""
    cache_works = wanted.use_cache
    if cache_works:
        try:
            if hit := await _cached(wanted, at):
                return hit
        except RedisError as error:
            note_fallback("lookup", error)
            cache_works = False
    vector = await at.embeddings.embed_query(wanted.question)  # remembered from the semantic lookup
    async with at.sessions() as session:
        # The generation first: an answer may then be filed under an older generation than its passages, where nobody
        # finds it, but never under a newer one.
        generation = await stored_generation(session, wanted.game)
        finding = await find_passages(session, wanted, vector, at.embeddings.name, at.calibration)
    flight = _flight(wanted, generation, finding, at)
    if cache_works:
        try:
            await at.cache.open_flight(flight)
        except RedisError as error:
            note_fallback("open_flight", error)
    _record("lead" if finding.covered else "uncovered", wanted)
    return Retrieved(
        outcome="lead",
        scope=flight.scope,
        flight=str(flight.id),
        passages=[found.passage for found in finding.found],
        covered=finding.covered,
        sources_as_of=min((found.as_of for found in finding.found if found.as_of), default=None),
    )


async def _cached(wanted: Retrieval, at: Resources) -> Retrieved | None:
    """The answer of either tier whose sources still stand."""
    generation = await at.freshness.generation(wanted.game)
    scope = scope_of(wanted, generation=generation, embedding_model=at.embeddings.name)
    entry = await at.cache.exact(scope, wanted.question)
    if entry and await _stands(entry, scope, at):
        return _hit(wanted, scope, entry, "exact", None)
    if at.calibration is None:
        return None
    return await _nearest_answer(wanted, scope, at.calibration, at)


async def _nearest_answer(wanted: Retrieval, scope: str, calibration: Calibration, at: Resources) -> Retrieved | None:
    asked = Asked(wanted.question, await at.embeddings.embed_query(wanted.question))
    for entry in await at.cache.neighbours(scope, asked.vector):
        if entry.vector is None:
            continue
        decision = decide(asked, Asked(entry.question, entry.vector), wanted.locale, calibration)
        _log_decision(decision, wanted, entry)
        if decision.served and await _stands(entry, scope, at):
            return _hit(wanted, scope, entry, "semantic", decision.similarity)
    return None


async def _stands(entry: Entry, scope: str, at: Resources) -> bool:
    """Whether all that the answer cites is as it was; an answer that does not stand is removed."""
    if await at.freshness.all_current(entry.cited):
        return True
    await at.cache.forget(scope, entry.id)
    return False


def _flight(wanted: Retrieval, generation: int, finding: Finding, at: Resources) -> Flight:
    passages = [found.passage for found in finding.found]
    return Flight(
        id=uuid7(),
        scope=scope_of(wanted, generation=generation, embedding_model=at.embeddings.name),
        game=wanted.game,
        locale=wanted.locale,
        generation=generation,
        question=question_id(wanted.question),
        covered=finding.covered,
        found=[Cited(document_id=passage.document_id, version=passage.version) for passage in passages],
    )


def _hit(
    wanted: Retrieval, scope: str, entry: Entry, tier: Literal["exact", "semantic"], similarity: float | None
) -> Retrieved:
    _record(tier, wanted)
    hit = Hit(cache=tier, similarity=similarity, answer=entry.answer)
    return Retrieved(outcome="hit", scope=scope, flight="", hit=hit, covered=True)


def _record(outcome: str, wanted: Retrieval) -> None:
    retrievals.labels(outcome).inc()
    logger.info("retrieved", extra={"outcome": outcome, "game": wanted.game, "locale": wanted.locale})


def _log_decision(decision: Decision, wanted: Retrieval, entry: Entry) -> None:
    logger.info(
        "semantic decision",
        extra={
            "game": wanted.game,
            "entry": entry.id,
            "served": decision.served,
            "similarity": round(decision.similarity, 4),
            "centred": round(decision.centred, 4),
            "reason": decision.reason or None,
        },
    )
