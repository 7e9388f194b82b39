"""Ending what has been issued: sessions with their refresh tokens, access tokens by a list that all services read.

An access token names its session and the epoch its owner had. A row here voids those of one session below an epoch;
each process of each service reads the new rows every second (`common.revocations`).
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from auth.models import RefreshToken, Revocation, User
from common.db import utc_now, uuid7

# No token has such an epoch: a session with this one is over. The largest number that the column holds.
ENDED = 2**31 - 1
# Longer than any access token lives, whatever lifetime it was signed with, the verifiers' leeway included.
RELEVANT = timedelta(minutes=65)


async def void_session(session: AsyncSession, sid: UUID) -> None:
    """End one session: its refresh tokens and its access tokens."""
    await _end_refresh_tokens(session, col(RefreshToken.family) == sid)
    await _record(session, [sid], ENDED)


async def void_sessions(session: AsyncSession, user: User) -> None:
    """End every session of `user`, whose row the caller has locked."""
    user.epoch += 1
    sids = await _recent_sessions(session, user)
    await _end_refresh_tokens(session, col(RefreshToken.user_id) == user.id)
    await _record(session, sids, ENDED)


async def void_tokens(session: AsyncSession, user: User) -> None:
    """Void the access tokens of `user`, whose row the caller has locked; a refresh gets one of the new epoch."""
    user.epoch += 1
    await _record(session, await _recent_sessions(session, user), user.epoch)


async def _recent_sessions(session: AsyncSession, user: User) -> list[UUID]:
    """Sessions that may have an access token: each one came with a refresh token."""
    issued = col(RefreshToken.created_at) > utc_now() - RELEVANT
    query = select(RefreshToken.family).where(RefreshToken.user_id == user.id, issued).distinct()
    return list((await session.exec(query)).all())


async def _end_refresh_tokens(session: AsyncSession, which: ColumnElement[bool]) -> None:
    live = col(RefreshToken.revoked_at).is_(None)
    await session.exec(update(RefreshToken).where(which, live).values(revoked_at=utc_now()))


async def _record(session: AsyncSession, sids: list[UUID], epoch: int) -> None:
    # The database's clock, since several processes write and their own may differ.
    rows = [{"id": uuid7(), "sid": sid, "epoch": epoch, "at": func.clock_timestamp()} for sid in sids]
    if rows:
        await session.exec(insert(Revocation).values(rows))
