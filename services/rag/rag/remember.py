"""Admission: the caches take only answers made from passages that cover the question and still stand."""

import logging

from prometheus_client import Counter
from redis import RedisError

from rag.answer_cache import Flight, note_fallback, question_id
from rag.resources import Resources
from rag.shapes import Remember, Remembered

logger = logging.getLogger(__name__)

offers = Counter("rag_answers_offered_total", "Answers offered to the caches", ["outcome"])

STALE_FLIGHT = "the flight has ended"
CHANGED = "the documents have changed"
UNAVAILABLE = "the cache is not available"


async def remember(offer: Remember, at: Resources) -> Remembered:
    """Store an answer, or say why not."""
    try:
        refused = await _store(offer, at)
    except RedisError as error:
        note_fallback("remember", error)
        refused = UNAVAILABLE
    offers.labels("refused" if refused else "stored").inc()
    logger.info("answer offered", extra={"stored": refused is None, "reason": refused})
    return Remembered(stored=refused is None, reason=refused)


async def _store(offer: Remember, at: Resources) -> str | None:
    flight = await at.cache.flight(offer.flight)
    if flight is None or flight.scope != offer.scope:
        return STALE_FLIGHT
    if refused := _inadmissible(offer, flight):
        return refused
    if await at.freshness.generation(flight.game) != flight.generation:
        return CHANGED
    if not await at.freshness.all_current(offer.cited):
        return CHANGED
    vector = await at.embeddings.embed_query(offer.question) if at.calibration else None
    stored = await at.cache.store(flight, offer.question, offer.answer, offer.cited, vector, asker=offer.asker)
    return None if stored else STALE_FLIGHT


def _inadmissible(offer: Remember, flight: Flight) -> str | None:
    if question_id(offer.question) != flight.question:
        return "it answers another question"
    if not flight.covered:
        return "the sources do not cover the question"
    if not offer.cited:
        return "it cites nothing"
    if not set(offer.cited) <= set(flight.found):
        return "it cites what was not found"
    return None
