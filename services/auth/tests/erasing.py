"""People who are erased, and what tests of it wait for and look for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlmodel import col, update

from auth.clients import open_holders
from auth.erasures import Erasures
from auth.keys import open_key_ring
from auth.models import Erasure
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.db import Sessions


class Person:
    """Somebody signed in."""

    def __init__(self, signed_in: dict[str, Any], email: str) -> None:
        self.id = UUID(signed_in["user"]["id"])
        self.email = email
        self.headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
        self.refresh_token = signed_in["refresh_token"]


async def sign_in(client: httpx.AsyncClient, **body: str) -> Person:
    email = body.setdefault("email", f"{uuid4().hex}@example.com")
    reply = await client.post("/auth/dev/login", json=body)
    assert reply.status_code == 200, reply.text
    return Person(reply.json(), email)


async def erase(client: httpx.AsyncClient, person: Person) -> dict[str, Any]:
    reply = await client.delete("/auth/me", headers=person.headers)
    assert reply.status_code == 202, reply.text
    receipt: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/auth/erasures/{receipt['id']}"
    return receipt


async def receipt_once_done(client: httpx.AsyncClient, erasure_id: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            receipt: dict[str, Any] = (await client.get(f"/auth/erasures/{erasure_id}")).json()
            if receipt["state"] == "done":
                return receipt
            await asyncio.sleep(0.05)


async def row_once_unsealed(sessions: Sessions, erasure_id: str) -> Erasure:
    async with asyncio.timeout(20):
        while True:
            async with sessions() as session:
                erasure = await session.get_one(Erasure, UUID(erasure_id))
            if erasure.sealed is None:
                return erasure
            await asyncio.sleep(0.05)


async def rows_with(sessions: Sessions, *words: str) -> list[str]:
    """Rows of any table in which one of the words stands, whatever the column."""
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'auth'"
    found = []
    async with sessions() as session:
        for (table,) in (await session.exec(text(tables))).all():  # type: ignore[call-overload]
            rows = await session.exec(text(f'SELECT t::text FROM auth."{table}" t'))  # type: ignore[call-overload]  # noqa: S608
            found += [f"{table}: {row}" for (row,) in rows if any(word in row for word in words)]
    return found


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while True:
            if happened():
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def process(told: Settings, sessions: Sessions) -> AsyncIterator[Erasures]:
    """The erasures of an auth process that has no background of its own."""
    encryption = Fernet(told.key_encryption_key.get_secret_value())
    keys = await open_key_ring(sessions, encryption)
    async with open_holders(told, TokenIssuer(keys, issuer=told.issuer, lifetime_seconds=60)) as found:
        yield Erasures(sessions, found, encryption, told.erasure_key, [])


async def make_due(sessions: Sessions) -> None:
    """Let every lease lapse."""
    async with sessions.begin() as session:
        await session.exec(update(Erasure).values(due_at=col(Erasure.requested_at)))


async def somebody_waits(sessions: Sessions) -> None:
    """Until a transaction waits for what another one has locked."""
    for _ in range(500):
        async with sessions() as session:
            if (await session.exec(text("SELECT pid FROM pg_locks WHERE NOT granted"))).all():
                return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")
