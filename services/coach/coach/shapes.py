"""What coach's public API takes and gives."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from coach.language import Locale, clean_text

Cache = Literal["miss", "exact", "semantic", "shared"]
Verdict = Literal["up", "down", "wrong"]
# In questions: what a player is charged for an answer that a model could write, for a cached one, for one told again.
QuestionCost = Literal["1", "0.1", "0"]


def _plain_decimal(value: Decimal) -> str:
    return format(value.normalize(), "f")


# A string without an exponent: `0.0002076`, not `2.076E-4`.
Money = Annotated[Decimal, PlainSerializer(_plain_decimal, return_type=str, when_used="json")]


# Text as players type it, made fit to store and to send on.
Typed = Annotated[str, BeforeValidator(clean_text)]


class AskRequest(BaseModel):
    """A question. Without `locale`: the user's own, else by the script of the question."""

    model_config = ConfigDict(extra="forbid")

    game: Annotated[Typed, Field(min_length=1, max_length=63)]
    question: Annotated[Typed, Field(min_length=1, max_length=2000)]
    locale: Locale | None = None
    conversation_id: UUID | None = None
    context: dict[Typed, Typed] = Field(default={}, max_length=32)


class Citation(BaseModel):
    """The passage behind a marker `[n]` of the answer."""

    marker: int
    document_id: str
    title: str
    snippet: str
    source: str
    url: str | None
    start_ms: int | None


class UsagePublic(BaseModel):
    """Tokens and money of one answer; a cost of null means that the model's price is not known."""

    prompt_tokens: int
    completion_tokens: int
    cost_usd: Money | None


class AnswerPublic(BaseModel):
    """An answer as the player gets it. `model` is null where none was needed."""

    id: UUID
    answer: str
    citations: list[Citation]
    is_cached: bool
    cache: Cache
    similarity: float | None
    degraded: bool
    covered: bool
    game: str
    locale: Locale
    patch: str
    sources_as_of: date | None
    model: str | None
    # Every answer is made by a machine, the quoted ones too.
    ai_generated: Literal[True] = True
    usage: UsagePublic
    latency_ms: int
    created_at: datetime


class Meta(BaseModel):
    """First event of a stream. `question_cost` goes into the head of the reply, for the gateway's daily quotas."""

    id: UUID
    cache: Cache
    patch: str
    question_cost: QuestionCost = Field(exclude=True)


class Token(BaseModel):
    """The next piece of the answer."""

    text: str


class HistoryItem(AnswerPublic):
    """An answer with its question."""

    question: str
    conversation_id: UUID | None
    feedback: Verdict | None


class History(BaseModel):
    """One page of answers, newest first; `next_cursor` is null on the last page."""

    items: list[HistoryItem]
    next_cursor: UUID | None


class FeedbackCreate(BaseModel):
    """The asker's verdict."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    comment: Annotated[Typed, Field(max_length=2000)] | None = None
