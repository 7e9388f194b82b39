"""Figures of a period: questions, hits, money and time, as totals and by day, game, language or model."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Row, func, literal
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from coach.models import Answer, Completion
from coach.shapes import Money

By = Literal["day", "game", "locale", "model"]


class HitRate(BaseModel):
    """Shares of all questions that a cache answered."""

    exact: float
    semantic: float


class Latency(BaseModel):
    """Milliseconds a player waited for the whole answer; null without questions."""

    p50: float | None
    p95: float | None


class Figures(BaseModel):
    """Money is that of answers and of calls for other services; what could not be priced is counted, not guessed."""

    questions: int
    players: int
    cost_usd: Money
    saved_usd: Money
    unpriced: int
    hit_rate: HitRate
    degraded: int
    not_covered: int
    latency_ms: Latency


class Point(Figures):
    """The figures of one day (`2026-10-01`), game, language or model."""

    key: str


class Stats(BaseModel):
    """A period, both days included."""

    from_: date = Field(serialization_alias="from")
    to: date
    totals: Figures
    series: list[Point]


async def read_stats(session: AsyncSession, first: date, last: date, by: By, zone: ZoneInfo) -> Stats:
    """Days begin at midnight in `zone`."""
    start = datetime.combine(first, time(), zone)
    end = datetime.combine(last + timedelta(days=1), time(), zone)
    whole = literal("")
    totals = await _points(session, start, end, whole, whole)
    series = await _points(session, start, end, _key(Answer, by, zone), _key(Completion, by, zone))
    return Stats(from_=first, to=last, totals=totals[0] if totals else _point("", None, None), series=series)


def _key(table: type[Answer] | type[Completion], by: By, zone: ZoneInfo) -> ColumnElement[str]:
    match by:
        case "day":
            return func.to_char(func.timezone(zone.key, col(table.created_at)), "YYYY-MM-DD")
        case "model":
            return func.coalesce(col(table.model), "none")
        case _:
            column: ColumnElement[str] = getattr(table, by)
            return column


async def _points(
    session: AsyncSession,
    start: datetime,
    end: datetime,
    answer_key: ColumnElement[str],
    completion_key: ColumnElement[str],
) -> list[Point]:
    """One point per key that has answers or calls, in the order of the keys."""
    answers = await _by_key(session, _answer_figures(answer_key), Answer, start, end)
    completions = await _by_key(session, _completion_figures(completion_key), Completion, start, end)
    keys = sorted(answers.keys() | completions.keys())
    return [_point(key, answers.get(key), completions.get(key)) for key in keys]


async def _by_key(
    session: AsyncSession,
    figures: list[ColumnElement[Any]],
    table: type[Answer] | type[Completion],
    start: datetime,
    end: datetime,
) -> dict[str, Row[Any]]:
    created_at = col(table.created_at)
    columns: Any = select(*figures)
    statement = columns.where(created_at >= start, created_at < end).group_by("key")
    rows: Sequence[Row[Any]] = (await session.exec(statement)).all()
    return {row.key: row for row in rows}


def _answer_figures(key: ColumnElement[str]) -> list[ColumnElement[Any]]:
    latency = col(Answer.latency_ms)
    return [
        key.label("key"),
        func.count().label("questions"),
        func.count(col(Answer.user_id).distinct()).label("players"),
        func.coalesce(func.sum(Answer.cost_usd), 0).label("cost_usd"),
        func.coalesce(func.sum(Answer.saved_usd), 0).label("saved_usd"),
        func.count().filter(col(Answer.cost_usd).is_(None)).label("unpriced"),
        func.count().filter(col(Answer.cache) == "exact").label("exact"),
        func.count().filter(col(Answer.cache) == "semantic").label("semantic"),
        func.count().filter(col(Answer.degraded)).label("degraded"),
        func.count().filter(~col(Answer.covered)).label("not_covered"),
        func.percentile_cont(0.5).within_group(latency).label("p50"),
        func.percentile_cont(0.95).within_group(latency).label("p95"),
    ]


def _completion_figures(key: ColumnElement[str]) -> list[ColumnElement[Any]]:
    cost = col(Completion.cost_usd)
    return [
        key.label("key"),
        func.coalesce(func.sum(cost), 0).label("cost_usd"),
        func.count().filter(cost.is_(None)).label("unpriced"),
    ]


def _point(key: str, answers: Row[Any] | None, completions: Row[Any] | None) -> Point:
    called_cost = completions.cost_usd if completions else Decimal(0)
    called_unpriced = completions.unpriced if completions else 0
    if answers is None:
        return Point(
            key=key,
            questions=0,
            players=0,
            cost_usd=called_cost,
            saved_usd=Decimal(0),
            unpriced=called_unpriced,
            hit_rate=HitRate(exact=0, semantic=0),
            degraded=0,
            not_covered=0,
            latency_ms=Latency(p50=None, p95=None),
        )
    return Point(
        key=key,
        questions=answers.questions,
        players=answers.players,
        cost_usd=answers.cost_usd + called_cost,
        saved_usd=answers.saved_usd,
        unpriced=answers.unpriced + called_unpriced,
        hit_rate=HitRate(exact=answers.exact / answers.questions, semantic=answers.semantic / answers.questions),
        degraded=answers.degraded,
        not_covered=answers.not_covered,
        latency_ms=Latency(p50=answers.p50, p95=answers.p95),
    )
