"""Everything that is kept of a person as one JSON document: told page by page, held in memory nowhere."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import func, or_
from sqlmodel import col, select

from auth.clients import RECORDS, ExportPage, Holder
from auth.models import Audit, RefreshToken, User
from common.db import Sessions, utc_now
from common.errors import AppError, Text, UnauthorizedError, UnavailableError

PAGE = 200
RETRY_SECONDS = 30

Records = list[dict[str, Any]]

_to_json = TypeAdapter(Any).dump_json


class ExportUnavailableError(UnavailableError):
    code = "export_unavailable"
    title = Text(
        "Your data cannot be collected right now, please try again",
        "지금은 데이터를 모을 수 없습니다. 잠시 후 다시 시도해 주세요",
    )


async def export(user_id: UUID, sessions: Sessions, holders: Sequence[Holder]) -> AsyncIterator[bytes]:
    """The document in pieces, once every service has given its first page.

    Raises ExportUnavailableError when one does not, UnauthorizedError when the account is gone. What fails later cuts
    the document short, and a document cut short is no JSON.
    """
    async with sessions() as session:
        user = await session.get(User, user_id)
    if user is None:
        raise UnauthorizedError
    try:
        firsts = await asyncio.gather(*(holder.export_page(user_id) for holder in holders))
    except AppError as error:
        raise ExportUnavailableError(retry_after_seconds=RETRY_SECONDS) from error
    return _document(user, sessions, list(zip(holders, firsts, strict=True)))


async def _document(
    user: User, sessions: Sessions, holders: Sequence[tuple[Holder, ExportPage]]
) -> AsyncIterator[bytes]:
    profile = user.model_dump(exclude={"epoch"})
    yield b'{"exported_at":%b,"auth":{"profile":%b,"sessions":' % (_to_json(utc_now()), _to_json(profile))
    async for piece in _array(_session_pages(sessions, user.id)):
        yield piece
    yield b',"audit":'
    async for piece in _array(_audit_pages(sessions, user.id)):
        yield piece
    yield b"}"
    for holder, first in holders:
        yield b',"%b":{"%b":' % (holder.name.encode(), RECORDS[holder.name].encode())
        async for piece in _array(_held_pages(holder, user.id, first)):
            yield piece
        yield b"}"
    yield b"}"


async def _array(pages: AsyncIterator[Records]) -> AsyncIterator[bytes]:
    """One JSON array of the records of all pages."""
    opening = b"["
    async for records in pages:
        if records:
            yield opening + _to_json(records)[1:-1]
            opening = b","
    yield b"[]" if opening == b"[" else b"]"


async def _held_pages(holder: Holder, user_id: UUID, page: ExportPage) -> AsyncIterator[Records]:
    yield page.records
    while page.next_cursor:
        page = await holder.export_page(user_id, page.next_cursor)
        yield page.records


async def _session_pages(sessions: Sessions, user_id: UUID) -> AsyncIterator[Records]:
    """Sessions, oldest first; each is a chain of refresh tokens, of which hashes alone are kept."""
    after: UUID | None = None
    family = col(RefreshToken.family)
    chains = (
        select(
            family,
            func.min(RefreshToken.created_at),
            func.max(RefreshToken.created_at),
            func.bool_and(col(RefreshToken.revoked_at).is_not(None)),
        )
        .where(RefreshToken.user_id == user_id)
        .group_by(family)
        .order_by(family)
        .limit(PAGE)
    )
    while True:
        async with sessions() as session:
            rows = (await session.exec(chains.where(family > after) if after else chains)).all()
        yield [dict(zip(("id", "started_at", "last_used_at", "ended"), row, strict=True)) for row in rows]
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


async def _audit_pages(sessions: Sessions, user_id: UUID) -> AsyncIterator[Records]:
    """What was done by the person or to them, oldest first; whom else it names is told as a role."""
    person = str(user_id)
    after: UUID | None = None
    entries = (
        select(Audit)
        .where(or_(col(Audit.actor) == person, col(Audit.subject) == person))
        .order_by(col(Audit.id))
        .limit(PAGE)
    )
    while True:
        async with sessions() as session:
            rows = (await session.exec(entries.where(col(Audit.id) > after) if after else entries)).all()
        yield [_audit_record(row, person) for row in rows]
        if len(rows) < PAGE:
            return
        after = rows[-1].id


def _audit_record(row: Audit, person: str) -> dict[str, Any]:
    about_them = row.subject == person
    return {
        "at": row.at,
        "action": row.action,
        "by": "you" if row.actor == person else row.actor if not _is_id(row.actor) else "an operator",
        "about": "you" if about_them else "somebody or something else",
        "detail": row.detail if about_them else None,
    }


def _is_id(actor: str) -> bool:
    try:
        UUID(actor)
    except ValueError:
        return False
    return True
