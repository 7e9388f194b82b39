"""The tables of schema `coach`."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Index, LargeBinary, Numeric
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from common.db import schema_registry, utc_now, uuid7

# One token of the cheapest model costs 5e-8 dollars, a cached one a tenth of that.
MONEY: Any = Numeric(18, 10)
TIMESTAMP: Any = DateTime(timezone=True)


class CoachTable(SQLModel, registry=schema_registry("coach")):
    """Base of the tables in schema `coach`."""


class Game(CoachTable, table=True):
    """A game players can ask about, as the operator set it up."""

    slug: str = Field(primary_key=True)
    titles: dict[str, str] = Field(sa_type=JSONB)
    locales: list[str] = Field(sa_type=JSONB)
    patch: str
    model: str | None = None
    parameters: dict[str, Any] = Field(sa_type=JSONB)
    template: str
    cross_lingual: bool
    context: dict[str, Any] = Field(sa_type=JSONB)
    sample_questions: dict[str, list[str]] = Field(sa_type=JSONB)
    updated_at: datetime = Field(default_factory=utc_now, sa_type=TIMESTAMP)


class Answer(CoachTable, table=True):
    """One answered question; `saved_usd` is what a cached answer had cost when a model wrote it."""

    # History is read newest first; a UUIDv7 sorts by the time it was made.
    __table_args__ = (Index(None, "user_id", "id"), Index(None, "created_at"))

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    user_id: UUID
    conversation_id: UUID | None = None
    game: str = Field(foreign_key="coach.game.slug")
    locale: str
    patch: str
    question: str
    answer: str
    citations: list[dict[str, Any]] = Field(sa_type=JSONB)
    is_cached: bool
    cache: str
    similarity: float | None = None
    degraded: bool
    covered: bool
    model: str | None = None
    prompt_version: str
    sources_as_of: date | None = None
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    # True where the provider reported no usage and the tokens were counted here.
    usage_estimated: bool
    cost_usd: Decimal | None = Field(default=None, sa_type=MONEY)
    saved_usd: Decimal | None = Field(default=None, sa_type=MONEY)
    ttft_ms: int | None = None
    latency_ms: int
    trace_id: str | None = None
    created_at: datetime = Field(sa_type=TIMESTAMP)


class Feedback(CoachTable, table=True):
    """What the asker thought of an answer; a later verdict replaces an earlier one."""

    answer_id: UUID = Field(primary_key=True, foreign_key="coach.answer.id", ondelete="CASCADE")
    verdict: str
    comment: str | None = None
    updated_at: datetime = Field(sa_type=TIMESTAMP)


class Claim(CoachTable, table=True):
    """The right to do the work behind an idempotency key, and, once done, the id of its result."""

    owner: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    digest: bytes = Field(sa_type=LargeBinary)
    result_id: UUID | None = None
    # While the work runs: when it must have died. Afterwards: how long the result is kept for the key.
    expires_at: datetime = Field(sa_type=TIMESTAMP, index=True)


class Completion(CoachTable, table=True):
    """A model call made for another service."""

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    client_id: str
    game: str = Field(foreign_key="coach.game.slug")
    locale: str
    text: str
    model: str
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    usage_estimated: bool
    cost_usd: Decimal | None = Field(default=None, sa_type=MONEY)
    created_at: datetime = Field(sa_type=TIMESTAMP, index=True)


class Price(CoachTable, table=True):
    """List price of a model in US dollars per million tokens, from a day on."""

    model: str = Field(primary_key=True)
    valid_from: date = Field(primary_key=True)
    input: Decimal = Field(sa_type=MONEY)
    cached_input: Decimal = Field(sa_type=MONEY)
    output: Decimal = Field(sa_type=MONEY)
