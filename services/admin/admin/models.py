"""The table of schema `admin`, and the shapes of its requests and replies."""

import math
import re
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, StringConstraints
from pydantic import Field as BodyField
from sqlalchemy import CheckConstraint, DateTime, Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from common.db import schema_registry, utc_now, uuid7

Outcome = Literal["started", "done", "failed"]
JobState = Literal["queued", "running", "succeeded", "failed"]
By = Literal["day", "game", "locale", "model"]
# Settings of a game are coach's to judge; they pass through here as they are.
GameSettings = dict[str, JsonValue]

# NUL, which Postgres cannot hold, and halves of surrogate pairs, which UTF-8 cannot.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _storable(value: JsonValue) -> JsonValue:
    """The same value; raises ValueError when the audit could not keep it: JSON has no NaN and no infinity either."""
    parts: list[JsonValue] = []
    match value:
        case str() if _UNSTORABLE.search(value):
            raise ValueError("a character in it cannot be stored")
        case float() if not math.isfinite(value):
            raise ValueError("a number in it is not finite")
        case dict():
            parts = [*value, *value.values()]
        case list():
            parts = value
    for part in parts:
        _storable(part)
    return value


NewGameSettings = Annotated[GameSettings, AfterValidator(_storable)]
# One line of text; the worker sets narrower bounds field by field.
Line = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class AdminTable(SQLModel, registry=schema_registry("admin")):
    """Base of every table here."""


class Audit(AdminTable, table=True):
    """Who changed what; `started` without an end means that this process died on the way."""

    __table_args__ = (
        CheckConstraint("outcome IN ('started', 'done', 'failed')", name="outcome"),
        Index(None, "target", "at"),
        Index(None, "actor_id", "at"),
    )

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    actor_id: UUID
    action: str
    target: str
    before: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    after: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    outcome: Outcome = Field(default="started", sa_type=String)
    request_id: str | None = None


class DocumentUpload(BaseModel):
    """What is said about an uploaded file; a JSONL file says most of it row by row."""

    model_config = ConfigDict(extra="forbid")

    game: Line
    locale: Literal["ko", "en"] | None = None
    title: Line | None = None
    source: Line | None = None
    licence: Line | None = None
    patch: Line | None = None
    url: Annotated[Line, StringConstraints(max_length=2000)] | None = None
    again: bool = BodyField(default=False, description="Ingest the file even if it has been ingested before")


class JobError(BaseModel):
    """Why the last attempt of a job failed."""

    code: str
    detail: str


class Job(BaseModel):
    """A background job and how far it is."""

    id: UUID
    kind: str
    state: JobState
    progress: float
    done: int
    total: int | None
    eta_seconds: int | None
    error: JobError | None
    attempts: int
    created_at: datetime
    finished_at: datetime | None
    result: dict[str, JsonValue] | None


class JobList(BaseModel):
    """Jobs, newest first; `next` continues the list as `before`."""

    jobs: list[Job]
    next: UUID | None


class Queue(BaseModel):
    """One queue at this moment; null where there is nothing to tell from."""

    name: str
    depth: int
    oldest_seconds: float | None
    eta_seconds: float | None
    consumers: int
    rate_per_minute: float
    retries: int
    dead_letters: int


class Queues(BaseModel):
    """All queues."""

    queues: list[Queue]


class Document(BaseModel):
    """A document in a game's knowledge base, without its text."""

    id: UUID
    game: str
    key: str
    locale: str
    patch: str | None
    kind: str
    title: str
    source: str
    licence: str
    url: str | None
    as_of: date | None
    version: int
    chunks: int
    created_at: datetime
    updated_at: datetime


class DocumentPage(BaseModel):
    """Documents, newest first; `next_cursor` is null on the last page."""

    documents: list[Document]
    next_cursor: UUID | None


class Piece(BaseModel):
    """A piece of a document; times where it is a transcript."""

    id: UUID
    ordinal: int
    text: str
    start_ms: int | None
    end_ms: int | None


class DocumentDetail(Document):
    """A document with its pieces."""

    pieces: list[Piece]


class GameList(BaseModel):
    """All games as they are set up."""

    games: list[GameSettings]


class HitRate(BaseModel):
    """Shares of all questions that a cache answered."""

    exact: float
    semantic: float


class Latency(BaseModel):
    """Milliseconds a player waited for the whole answer."""

    p50: float | None
    p95: float | None


class Figures(BaseModel):
    """Figures of a period; money as decimal strings."""

    questions: int
    players: int
    cost_usd: str
    saved_usd: str
    unpriced: int
    hit_rate: HitRate
    degraded: int
    not_covered: int
    latency_ms: Latency


class Point(Figures):
    """The figures of one day, game, language or model."""

    key: str


class Totals(BaseModel):
    """Figures of the whole period; null where the service that knows them does not answer, or nobody knows yet."""

    questions: int | None = None
    players: int | None = None
    premium_share: float | None = None
    cost_usd: str | None = None
    saved_usd: str | None = None
    unpriced: int | None = None
    hit_rate: HitRate | None = None
    false_hit_upper: float | None = None
    degraded: int | None = None
    not_covered: int | None = None
    latency_ms: Latency | None = None


class Stats(BaseModel):
    """A period, both days included; `unavailable` names the services whose part is missing."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    from_: date | None = BodyField(alias="from")
    to: date | None
    by: By
    totals: Totals
    series: list[Point]
    unavailable: list[str]
