"""Tables of schema `rag`."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from common.db import schema_registry, utc_now, uuid7
from rag.embedding import DIMENSIONS

Moment = DateTime(timezone=True)


class RagTable(SQLModel, registry=schema_registry("rag")):
    """Base of every table here."""


class EmbeddingModel(RagTable, table=True):
    """A model that made vectors stored here."""

    __tablename__ = "embedding_model"

    name: str = Field(primary_key=True)
    dimensions: int
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)


class Document(RagTable, table=True):
    """A source as last published; a deleted one stays as a mark, so that its version never starts over."""

    __table_args__ = (UniqueConstraint("game", "key"),)

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    game: str
    key: str
    locale: str
    patch: str | None = None
    kind: str
    title: str
    source: str
    licence: str
    url: str | None = None
    sha256: str
    as_of: date | None = None
    version: int = 1
    embedding_model: str = Field(foreign_key="rag.embedding_model.name")
    created_at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    updated_at: datetime = Field(default_factory=utc_now, sa_type=Moment)
    deleted_at: datetime | None = Field(default=None, sa_type=Moment)


class Chunk(RagTable, table=True):
    """A piece of a document with its vector; game and locale are repeated here because every search filters by them."""

    __table_args__ = (
        Index(None, "document_id"),
        # A small game is read whole by this index, a large one walks the graph; the planner chooses.
        Index(None, "game", "locale"),
        Index(
            None,
            "embedding",
            postgresql_using="hnsw",
            postgresql_with={"m": 16, "ef_construction": 64},
            postgresql_ops={"embedding": "halfvec_cosine_ops"},
        ),
    )

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    document_id: UUID = Field(foreign_key="rag.document.id", ondelete="CASCADE")
    game: str
    locale: str
    ordinal: int
    text: str
    start_ms: int | None = None
    end_ms: int | None = None
    embedding_model: str = Field(foreign_key="rag.embedding_model.name")
    embedding: Any = Field(sa_type=HALFVEC(DIMENSIONS))


class Generation(RagTable, table=True):
    """How often a game's documents have been published; part of every cached answer's scope."""

    game: str = Field(primary_key=True)
    number: int = 0
