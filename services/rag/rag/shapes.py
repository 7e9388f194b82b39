"""Requests and replies of this service."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from rag.embedding import clean

Locale = Literal["ko", "en"]
DocumentState = Literal["created", "replaced", "unchanged"]
Kind = Literal["text", "markdown", "html", "jsonl", "subtitle", "summary"]

Slug = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Name = Annotated[str, AfterValidator(clean), StringConstraints(max_length=200)]
Line = Annotated[str, AfterValidator(clean), StringConstraints(min_length=1, max_length=500)]
# A chunk is about 1,200 characters; what is far longer was not cut, and its vector would mean little.
ChunkText = Annotated[str, AfterValidator(clean), StringConstraints(min_length=1, max_length=8_000)]
Question = Annotated[str, AfterValidator(clean), StringConstraints(min_length=1, max_length=2_000)]

Asker = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cited(BaseModel):
    """A document, as it was when an answer was made from it."""

    model_config = ConfigDict(frozen=True)

    document_id: UUID
    version: int


class Retrieval(_Request):
    """A question, and everything that decides which cached answers may serve it."""

    game: Slug
    locale: Locale
    patch: Name
    prompt_version: Name
    model: Name
    context: dict[Name, Name] = Field(default_factory=dict, max_length=20)
    question: Question
    cross_lingual: bool = True
    use_cache: bool = True
    top_k: int = Field(default=5, ge=1, le=20)


class Passage(BaseModel):
    """A chunk that may hold the answer; `score` is the raw cosine."""

    document_id: UUID
    version: int
    chunk_id: UUID
    title: str
    text: str
    source: str
    licence: str
    url: str | None
    locale: Locale
    start_ms: int | None
    end_ms: int | None
    score: float


class Hit(BaseModel):
    """An answer from a cache, as it was remembered; `similarity` is the raw cosine of a semantic hit."""

    cache: Literal["exact", "semantic"]
    similarity: float | None
    answer: Any


class Retrieved(BaseModel):
    """`hit`: an answer; `lead`: passages, and the flight under which the answer made from them may be remembered."""

    outcome: Literal["hit", "lead"]
    scope: str
    flight: str
    hit: Hit | None = None
    passages: list[Passage] = []
    covered: bool
    sources_as_of: date | None = None


class Remember(_Request):
    """A complete answer made from the passages of `flight`, and the documents it cites."""

    scope: Name
    flight: UUID
    question: Question
    answer: Any
    cited: list[Cited] = Field(max_length=20)
    # Whose question it was, as a digest: by it the answer is forgotten when that person is erased.
    asker: Asker | None = None


class Forget(_Request):
    """Whose answers are to be forgotten, by the same digest."""

    asker: Asker


class Forgotten(BaseModel):
    """How many answers were there."""

    forgotten: int


class Remembered(BaseModel):
    """Whether an answer was stored, or why not."""

    stored: bool
    reason: str | None = None


class ChunkCreate(_Request):
    """A piece of a document; times where it is a transcript."""

    text: ChunkText
    start_ms: int | None = Field(default=None, ge=0)
    end_ms: int | None = Field(default=None, ge=0)


class DocumentCreate(_Request):
    """A document to publish under a key that stays the same over its versions."""

    key: Line
    locale: Locale
    patch: Name | None = None
    kind: Kind
    title: Line
    source: Line
    licence: Line
    url: Annotated[str, StringConstraints(max_length=2_000, pattern=r"^https?://")] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    as_of: date | None = None
    chunks: list[ChunkCreate] = Field(min_length=1, max_length=2_000)


class Batch(_Request):
    """Documents that are published together: all of them or none."""

    game: Slug
    documents: list[DocumentCreate] = Field(min_length=1, max_length=200)


class PublishedDocument(BaseModel):
    """What became of one document of a batch."""

    key: str
    id: UUID
    version: int
    state: DocumentState
    chunks: int


class Published(BaseModel):
    """What became of a batch, in its order."""

    documents: list[PublishedDocument]


class DocumentPublic(BaseModel):
    """A document without its text."""

    model_config = ConfigDict(from_attributes=True)

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
    sha256: str
    as_of: date | None
    version: int
    chunks: int
    created_at: datetime
    updated_at: datetime


class DocumentPage(BaseModel):
    """Documents, newest first; `next_cursor` is null on the last page."""

    documents: list[DocumentPublic]
    next_cursor: UUID | None


class ChunkPublic(BaseModel):
    """A piece of a document."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    ordinal: int
    text: str
    start_ms: int | None
    end_ms: int | None


class DocumentDetail(DocumentPublic):
    """A document with its pieces."""

    pieces: list[ChunkPublic]
