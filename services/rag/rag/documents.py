"""Documents: published in batches, replaced whole, deleted at once."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from redis import RedisError
from sqlalchemy import ColumnElement, func, insert
from sqlalchemy.dialects import postgresql
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from common.db import utc_now, uuid7
from common.errors import NotFoundError
from rag.answer_cache import note_fallback
from rag.embedding import DIMENSIONS, Embeddings, Vector, passage_text
from rag.freshness import Freshness, generation_key, version_key
from rag.models import Chunk, Document, EmbeddingModel, Generation
from rag.resources import Resources
from rag.shapes import (
    Batch,
    ChunkPublic,
    DocumentCreate,
    DocumentDetail,
    DocumentPage,
    DocumentPublic,
    DocumentState,
    Published,
    PublishedDocument,
)

logger = logging.getLogger(__name__)


class _Change(NamedTuple):
    """A document of a batch that is new or differs from what is stored."""

    wanted: DocumentCreate
    vectors: list[Vector]


async def publish(batch: Batch, at: Resources) -> Published:
    """Store a batch, all of it or nothing; what is stored already stays untouched, so a repeat changes nothing."""
    wanted = {document.key: document for document in batch.documents}  # of a key given twice the last one counts
    async with at.sessions() as session:
        stored = await _by_key(session, batch.game, wanted)
    model = at.embeddings.name
    changed = [document for key, document in wanted.items() if not _is_stored(document, stored.get(key), model)]
    changes = await _embed(changed, at.embeddings)  # takes seconds, so it comes before the transaction
    async with at.sessions.begin() as session:
        published = await _store(session, batch.game, wanted, changes, at)
    written = sum(document.state != "unchanged" for document in published)
    logger.info("published", extra={"game": batch.game, "documents": len(published), "written": written})
    return Published(documents=published)


async def _store(
    session: AsyncSession, game: str, wanted: Mapping[str, DocumentCreate], changes: Sequence[_Change], at: Resources
) -> list[PublishedDocument]:
    generation = await _lock_generation(session, game)
    await _register_model(session, at.embeddings.name)
    stored = await _by_key(session, game, wanted)
    states: dict[str, DocumentState] = dict.fromkeys(wanted, "unchanged")
    for change in changes:
        key = change.wanted.key
        known = stored.get(key)
        if not _is_stored(change.wanted, known, at.embeddings.name):  # nor by another call meanwhile
            states[key] = "replaced" if known and not known.deleted_at else "created"
            stored[key] = await _write(session, game, change, known, at.embeddings.name)
    if written := [stored[key] for key, state in states.items() if state != "unchanged"]:
        generation.number += 1
        await session.flush()
        await _announce(at.freshness, written, {generation_key(game): generation.number})
    return [
        PublishedDocument(
            key=key, id=stored[key].id, version=stored[key].version, state=state, chunks=len(wanted[key].chunks)
        )
        for key, state in states.items()
    ]


async def delete_document(document_id: UUID, at: Resources, *, by: UUID | None) -> None:
    """Remove a document: from now on nothing is found in it, and no cached answer that cites it is served."""
    async with at.sessions.begin() as session:
        document = await session.get(Document, document_id, with_for_update=True)
        if document is None or document.deleted_at:
            raise NotFoundError
        await session.exec(delete(Chunk).where(col(Chunk.document_id) == document_id))
        document.version += 1
        document.deleted_at = document.updated_at = utc_now()
        await session.flush()
        await _announce(at.freshness, [document], {})
    logger.info("deleted", extra={"document_id": str(document_id), "actor": str(by) if by else None})


async def list_documents(session: AsyncSession, *, game: str | None, cursor: UUID | None, limit: int) -> DocumentPage:
    """A page of documents, newest first."""
    conditions: list[ColumnElement[bool]] = [col(Document.deleted_at).is_(None)]
    if game:
        conditions.append(col(Document.game) == game)
    if cursor:
        conditions.append(col(Document.id) < cursor)
    query = _with_chunk_counts().where(*conditions).order_by(col(Document.id).desc()).limit(limit + 1)
    rows = [_public(document, chunks) for document, chunks in (await session.exec(query)).all()]
    more = len(rows) > limit
    return DocumentPage(documents=rows[:limit], next_cursor=rows[limit - 1].id if more else None)


async def show_document(session: AsyncSession, document_id: UUID) -> DocumentDetail:
    """A document with its pieces."""
    query = _with_chunk_counts().where(col(Document.id) == document_id, col(Document.deleted_at).is_(None))
    row = (await session.exec(query)).first()
    if row is None:
        raise NotFoundError
    pieces = await session.exec(select(Chunk).where(Chunk.document_id == document_id).order_by(col(Chunk.ordinal)))
    public = _public(*row).model_dump()
    return DocumentDetail(**public, pieces=[ChunkPublic.model_validate(chunk) for chunk in pieces])


def _with_chunk_counts() -> Any:
    count = select(func.count()).where(col(Chunk.document_id) == col(Document.id)).scalar_subquery()
    return select(Document, count)


def _public(document: Document, chunks: int) -> DocumentPublic:
    return DocumentPublic.model_validate({**document.model_dump(), "chunks": chunks})


async def _by_key(session: AsyncSession, game: str, keys: Iterable[str]) -> dict[str, Document]:
    query = select(Document).where(Document.game == game, col(Document.key).in_(list(keys)))
    return {document.key: document for document in await session.exec(query)}


def _is_stored(wanted: DocumentCreate, stored: Document | None, model: str) -> bool:
    """Whether publishing would change nothing; the hash covers all that makes another version."""
    if stored is None or stored.deleted_at:
        return False
    return (stored.sha256, stored.embedding_model) == (wanted.sha256, model)


async def _embed(changed: Sequence[DocumentCreate], embeddings: Embeddings) -> list[_Change]:
    texts = [passage_text(document.title, chunk.text) for document in changed for chunk in document.chunks]
    vectors = iter(await embeddings.embed_passages(texts))
    return [_Change(document, list(islice(vectors, len(document.chunks)))) for document in changed]


async def _lock_generation(session: AsyncSession, game: str) -> Generation:
    """The game's generation, held until the end of the transaction: publications of a game come one after another."""
    await session.exec(postgresql.insert(Generation).values(game=game, number=0).on_conflict_do_nothing())
    query = select(Generation).where(Generation.game == game).with_for_update()
    return (await session.exec(query)).one()


async def _register_model(session: AsyncSession, name: str) -> None:
    row = {"name": name, "dimensions": DIMENSIONS, "created_at": utc_now()}
    await session.exec(postgresql.insert(EmbeddingModel).values(row).on_conflict_do_nothing())


async def _write(session: AsyncSession, game: str, change: _Change, stored: Document | None, model: str) -> Document:
    """Put a document and its chunks in the place of an earlier version."""
    said = {**change.wanted.model_dump(exclude={"chunks"}), "embedding_model": model}
    if stored is None:
        stored = Document(game=game, **said)
    else:
        await session.exec(delete(Chunk).where(col(Chunk.document_id) == stored.id))
        stored.sqlmodel_update({**said, "version": stored.version + 1, "updated_at": utc_now(), "deleted_at": None})
    session.add(stored)
    await session.flush()
    await session.exec(insert(Chunk).values(_chunk_rows(stored, change, model)))
    return stored


def _chunk_rows(document: Document, change: _Change, model: str) -> list[dict[str, Any]]:
    return [
        {
            "id": uuid7(),
            "document_id": document.id,
            "game": document.game,
            "locale": document.locale,
            "ordinal": ordinal,
            "embedding_model": model,
            "embedding": vector,
            **chunk.model_dump(),
        }
        for ordinal, (chunk, vector) in enumerate(zip(change.wanted.chunks, change.vectors, strict=True))
    ]


async def _announce(freshness: Freshness, documents: Sequence[Document], others: Mapping[str, int]) -> None:
    """Raise the copies that cached answers are checked against, right before the commit.

    Without the cache Redis nothing cached is served either, and copies are a minute old at most when it comes back.
    """
    try:
        await freshness.raise_copies({version_key(item.id): item.version for item in documents} | dict(others))
    except RedisError as error:
        note_fallback("announce", error)
