"""The routes of rag; all of them are for other services only."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from common.db import SessionDep
from common.errors import problem_responses
from rag import documents
from rag.deps import ActorDep, Answering, Publishing, ResourcesDep
from rag.privacy import forget
from rag.remember import remember
from rag.retrieve import retrieve
from rag.shapes import (
    Batch,
    DocumentDetail,
    DocumentPage,
    Forget,
    Forgotten,
    Published,
    Remember,
    Remembered,
    Retrieval,
    Retrieved,
    Slug,
)

router = APIRouter(tags=["answers"], responses=problem_responses(401, 403, 422))
documents_router = APIRouter(prefix="/internal/documents", tags=["documents"], responses=problem_responses(401, 403))


@router.post("/retrieve", responses=problem_responses(503))
async def retrieve_answer(body: Retrieval, at: ResourcesDep, _: Answering) -> Retrieved:
    """A cached answer, or the passages to make one from."""
    return await retrieve(body, at)


@router.post("/remember")
async def remember_answer(body: Remember, at: ResourcesDep, _: Answering) -> Remembered:
    """Offer an answer to the caches."""
    return await remember(body, at)


@router.post("/internal/answers/forget", responses=problem_responses(503))
async def forget_answers(body: Forget, at: ResourcesDep, _: Answering) -> Forgotten:
    """Forget every cached answer made for one asker."""
    return await forget(body, at)


@documents_router.put("", responses=problem_responses(422, 503))
async def publish_documents(body: Batch, at: ResourcesDep, _: Publishing) -> Published:
    """Publish a batch: new and changed documents are embedded and replace what was there, all at once."""
    return await documents.publish(body, at)


@documents_router.get("", responses=problem_responses(422))
async def list_documents(
    session: SessionDep,
    _: Publishing,
    game: Slug | None = None,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DocumentPage:
    """Documents, newest first."""
    return await documents.list_documents(session, game=game, cursor=cursor, limit=limit)


@documents_router.get("/{document_id}", responses=problem_responses(404, 422))
async def show_document(document_id: UUID, session: SessionDep, _: Publishing) -> DocumentDetail:
    """A document with its text."""
    return await documents.show_document(session, document_id)


@documents_router.delete("/{document_id}", status_code=204, responses=problem_responses(404, 422))
async def delete_document(document_id: UUID, at: ResourcesDep, _: Publishing, actor: ActorDep) -> None:
    """Delete a document; it is gone from every answer at once."""
    await documents.delete_document(document_id, at, by=actor.id if actor else None)
