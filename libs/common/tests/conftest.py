"""A small service on the floor, with one table, for the tests of the floor itself."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, select

from common.app import create_app
from common.db import SessionDep, schema_registry, uuid7
from common.errors import ConflictError, Text
from common.identity import CurrentUser, Service, require_role, require_scope
from common.settings import ServiceSettings
from common.testing import Database, running

router = APIRouter()


class NotesTable(SQLModel, registry=schema_registry("notes")):
    """Base of the test service's tables."""


class Note(NotesTable, table=True):
    id: UUID = Field(default_factory=uuid7, primary_key=True)
    text: str


class NoteBody(BaseModel, extra="forbid"):
    text: str = Field(min_length=1, max_length=20)


@router.post("/notes", status_code=201)
async def create_note(body: NoteBody, session: SessionDep) -> Note:
    note = Note(text=body.text)
    session.add(note)
    await session.flush()
    return note


@router.get("/notes/{note_text}")
async def read_notes(note_text: str, session: SessionDep) -> list[Note]:
    return list(await session.exec(select(Note).where(Note.text == note_text)))


@router.delete("/notes/{note_text}", status_code=204)
async def delete_notes(note_text: str, session: SessionDep) -> None:
    for note in await session.exec(select(Note).where(Note.text == note_text)):
        await session.delete(note)


@router.get("/me")
async def me(user: CurrentUser) -> dict[str, str]:
    return {"id": str(user.id), "role": user.role}


@router.get("/ops", dependencies=[Depends(require_role("admin", "viewer"))])
async def ops() -> dict[str, str]:
    return {}


@router.get("/inside")
async def inside(service: Annotated[Service, Depends(require_scope("notes:read"))]) -> dict[str, str]:
    return {"client_id": service.client_id}


@router.get("/conflict")
async def conflict() -> None:
    raise ConflictError(Text("It is taken", "이미 사용 중입니다"))


@router.get("/bug/{secret}")
async def bug(secret: str) -> None:
    raise RuntimeError(f"inner detail {secret}")


@asynccontextmanager
async def nothing_more(app: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield {}


@pytest.fixture(scope="session")
async def notes_url(database: Database) -> str:
    """Address of a database with a schema `notes` and its one table."""
    url = database.admin_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA notes"))
        await connection.run_sync(Note.metadata.create_all)
        # Checked at commit: what a request learns only after its last statement.
        await connection.execute(
            text("ALTER TABLE notes.note ADD CONSTRAINT one_text UNIQUE (text) DEFERRABLE INITIALLY DEFERRED")
        )
    await engine.dispose()
    return url


@pytest.fixture
async def app(notes_url: str, redis_urls: dict[str, str], auth_url: str) -> FastAPI:
    settings = ServiceSettings(
        env="development",
        auth_url=auth_url,
        database_url=SecretStr(notes_url),
        state_redis_url=SecretStr(redis_urls["state"]),
        client_secret=SecretStr("notes-secret-of-the-tests"),
    )
    return create_app("notes", settings, [router], nothing_more)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[Any]:
    async with running(app) as client:
        yield client
