"""The passages nearest to a question, by language, and whether they cover it."""

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from rag.calibrated import Calibration
from rag.embedding import Vector, unit
from rag.models import Chunk, Document
from rag.shapes import Locale, Passage, Retrieval

CANDIDATES = 40  # more than the largest `top_k`

# Places kept for the other language where the own one is not sure of itself: e5 ranks its passages behind all others,
# so merged by score they never appear (0 of 64 questions); two places bring 41 % of the Korean questions' answers in.
FOREIGN_PLACES = 2

# Without iterative scan HNSW filters after it has looked: a game of few chunks would get fewer than k, or none.
# In strict order it drops whatever it comes to late, and it comes late to the passages of another language, which lie
# together and far away: of their nearest five it found 30 %. In relaxed order, with candidates to choose from, 97 %.
SEARCH_SETTINGS = select(
    func.set_config("hnsw.iterative_scan", "relaxed_order", True),
    func.set_config("hnsw.ef_search", "100", True),
    func.set_config("hnsw.max_scan_tuples", "200000", True),
)


class Found(NamedTuple):
    """A passage with what is known about it beside its reply."""

    passage: Passage
    relevance: float | None  # centred; None without a calibration
    as_of: date | None


class Finding(NamedTuple):
    """The passages for a question, best first."""

    found: list[Found]
    covered: bool


async def find_passages(
    session: AsyncSession, wanted: Retrieval, vector: Vector, model: str, calibration: Calibration | None
) -> Finding:
    """Up to `top_k` passages: in the question's language first, then, where those are few or weak, in the other."""
    await session.exec(SEARCH_SETTINGS)
    own = await _nearest(session, wanted, wanted.locale, vector, model, calibration)
    best_own = _best(own)
    weak = calibration is None or best_own < calibration.confident
    places = max(wanted.top_k - len(own), min(FOREIGN_PLACES, wanted.top_k - 1) if weak else 0)
    if not wanted.cross_lingual or not places:
        return Finding(own, _covered(own, calibration))
    other_locale: Locale = "en" if wanted.locale == "ko" else "ko"
    other = await _nearest(session, wanted, other_locale, vector, model, calibration)
    if calibration:  # across languages raw cosines compare little
        other.sort(key=lambda item: item.relevance or 0, reverse=True)
    other = other[:places]
    own = own[: wanted.top_k - len(other)]
    only_other_covers = calibration is not None and best_own < calibration.floor <= _best(other)
    found = other + own if only_other_covers else own + other
    return Finding(found, _covered(found, calibration))


async def _nearest(
    session: AsyncSession,
    wanted: Retrieval,
    locale: Locale,
    vector: Vector,
    model: str,
    calibration: Calibration | None,
) -> list[Found]:
    distance = Chunk.embedding.cosine_distance(vector)
    near = select(Chunk.id, distance.label("distance")).where(
        Chunk.game == wanted.game, Chunk.locale == locale, Chunk.embedding_model == model
    )
    rows = await _rows(session, near.order_by(distance).limit(CANDIDATES), wanted.top_k)
    if len(rows) < wanted.top_k:
        # Few chunks there are, or the graph has an island it did not reach: the sum keeps the planner off the graph.
        rows = await _rows(session, near.order_by(distance + 0.0).limit(CANDIDATES), wanted.top_k)
    return [
        Found(
            _passage(chunk, document, 1 - distance),
            calibration.relevance(vector, wanted.locale, unit(chunk.embedding), locale) if calibration else None,
            document.as_of,
        )
        for chunk, document, distance in rows
    ]


async def _rows(session: AsyncSession, near: Any, top_k: int) -> Sequence[Any]:
    """The nearest of the candidates with their documents; the sum keeps the planner from taking them for sorted."""
    candidates = near.cte("candidates").prefix_with("MATERIALIZED", dialect="postgresql")
    query: Any = select(Chunk, Document, candidates.c.distance)
    query = query.join(candidates, candidates.c.id == col(Chunk.id))
    query = query.join(Document, col(Document.id) == col(Chunk.document_id))
    rows: Sequence[Any] = (await session.exec(query.order_by(candidates.c.distance + 0.0).limit(top_k))).all()
    return rows


def _best(found: Sequence[Found]) -> float:
    return max((item.relevance for item in found if item.relevance is not None), default=-1.0)


def _covered(found: Sequence[Found], calibration: Calibration | None) -> bool:
    """Whether the sources say anything about the question; without a calibration nobody can tell, so they do."""
    return _best(found) >= calibration.floor if calibration else bool(found)


def _passage(chunk: Chunk, document: Document, score: float) -> Passage:
    return Passage.model_validate(
        {
            **document.model_dump(include={"version", "title", "source", "licence", "url", "locale"}),
            **chunk.model_dump(include={"document_id", "text", "start_ms", "end_ms"}),
            "chunk_id": chunk.id,
            "score": round(score, 4),
        }
    )
