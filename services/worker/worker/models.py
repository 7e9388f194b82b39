"""Tables of schema `worker`, and the shapes of its requests and replies."""

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, HttpUrl
from pydantic import Field as BodyField
from sqlalchemy import CheckConstraint, DateTime, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from common.db import schema_registry, utc_now, uuid7
from common.jobs import OutboxRow, Queue

Kind = Literal["text", "markdown", "jsonl", "subtitle"]
Locale = Literal["ko", "en"]
JobState = Literal["queued", "running", "succeeded", "failed"]
Method = Literal["model", "extracted"]

Moment = DateTime(timezone=True)


class WorkerTable(SQLModel, registry=schema_registry("worker")):
    """Base of every table here."""


class Upload(WorkerTable, table=True):
    """A file as it came, and what was said about it."""

    __table_args__ = (CheckConstraint("kind = 'jsonl' OR locale IS NOT NULL", name="locale"),)

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    # Content and metadata in one hash: the same file for the same game, described alike, is one upload.
    fingerprint: str = Field(unique=True)
    kind: Kind = Field(sa_type=String)
    filename: str
    game: str
    locale: Locale | None = Field(default=None, sa_type=String)
    title: str | None = None
    source: str | None = None
    licence: str | None = None
    patch: str | None = None
    url: str | None = None
    sha256: str
    size: int
    content: bytes = Field(sa_type=LargeBinary)
    uploaded_by: UUID
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class Job(WorkerTable, table=True):
    """A background job as ops see it; the queue only carries its id."""

    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed')", name="state"),
        Index(None, "queue", "state", "created_at"),
    )

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    kind: str
    queue: Queue = Field(sa_type=String)
    upload_id: UUID | None = Field(default=None, foreign_key="worker.upload.id", ondelete="CASCADE", index=True)
    state: JobState = Field(default="queued", sa_type=String)
    done: int = 0
    total: int | None = None
    attempts: int = 0
    error: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    result: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    started_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


class Transcript(WorkerTable, table=True):
    """What was said when in an uploaded track; `lines` are `[start_ms, end_ms, text]`."""

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    upload_id: UUID = Field(foreign_key="worker.upload.id", ondelete="CASCADE", unique=True)
    locale: Locale = Field(sa_type=String)
    duration_ms: int
    lines: list[Any] = Field(sa_type=JSONB)
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class Summary(WorkerTable, table=True):
    """A transcript in short, in one language; `method` says whether a model wrote it or it quotes the track."""

    __table_args__ = (
        UniqueConstraint("transcript_id", "locale"),
        CheckConstraint("method IN ('model', 'extracted')", name="method"),
    )

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    transcript_id: UUID = Field(foreign_key="worker.transcript.id", ondelete="CASCADE")
    locale: Locale = Field(sa_type=String)
    method: Method = Field(sa_type=String)
    model: str | None = None
    title: str
    text: str
    moments: list[Any] = Field(sa_type=JSONB)
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class Outbox(OutboxRow, WorkerTable, table=True):
    """Jobs written with their cause, not sent yet."""


# Postgres text holds no NUL, and no other control character belongs into a name either.
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
_NOT_BLANK = r"[^\s\x00]"


class UploadCreate(BaseModel):
    """What is said about an uploaded file, as query parameters; a JSONL file says most of it row by row."""

    model_config = ConfigDict(extra="forbid")

    filename: str = BodyField(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$")
    game: str = BodyField(max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")
    locale: Locale | None = None
    title: str | None = BodyField(default=None, min_length=1, max_length=300, pattern=_PRINTABLE)
    source: str | None = BodyField(default=None, min_length=1, max_length=500, pattern=_PRINTABLE)
    licence: str | None = BodyField(default=None, min_length=1, max_length=200, pattern=_PRINTABLE)
    patch: str | None = BodyField(default=None, min_length=1, max_length=64, pattern=_PRINTABLE)
    url: HttpUrl | None = None
    # Ingest it even if it was before: its documents may have been deleted since.
    again: bool = False


class JobError(BaseModel):
    """Why the last attempt of a job failed."""

    code: str
    detail: str


class JobPublic(BaseModel):
    """A job and how far it is."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    state: JobState
    progress: float = BodyField(ge=0, le=1)
    done: int
    total: int | None
    eta_seconds: int | None
    error: JobError | None
    attempts: int
    created_at: datetime
    finished_at: datetime | None
    result: dict[str, Any] | None


class JobList(BaseModel):
    """Jobs, newest first; `next` continues the list as `before`."""

    jobs: list[JobPublic]
    next: UUID | None


class QueueStats(BaseModel):
    """One queue at this moment; null where there is nothing to tell from."""

    name: Queue
    depth: int
    oldest_seconds: float | None
    eta_seconds: float | None
    consumers: int
    rate_per_minute: float
    retries: int
    dead_letters: int


class Queues(BaseModel):
    """All queues."""

    queues: list[QueueStats]


class Row(BaseModel):
    """One line of an uploaded JSONL file."""

    model_config = ConfigDict(extra="forbid")

    doc_id: str = BodyField(min_length=1, max_length=300, pattern=_PRINTABLE)
    game: str
    locale: Locale
    title: str = BodyField(min_length=1, max_length=300, pattern=_PRINTABLE)
    text: str = BodyField(pattern=_NOT_BLANK)
    source: str = BodyField(min_length=1, max_length=500, pattern=_PRINTABLE)
    licence: str = BodyField(min_length=1, max_length=200, pattern=_PRINTABLE)
    patch: str | None = BodyField(default=None, min_length=1, max_length=64, pattern=_PRINTABLE)
    url: HttpUrl | None = None
    as_of: date | None = None
