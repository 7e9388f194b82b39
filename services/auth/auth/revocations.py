"""Ending what has been issued: sessions with their refresh tokens, access tokens by a list that all services read.

An access token names its session and the epoch its owner had. A row here voids those of one session below an epoch;
each process of each service reads the new rows every second (`common.revocations`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from auth.models import RefreshToken, Revocation, User
from common.db import Sessions, utc_now, uuid7
from common.revocations import RELEVANT_SECONDS, RevocationPage, RevocationSource, Revoked

# No token has such an epoch: a session with this one is over. The largest number that the column holds.
ENDED = 2**31 - 1
RELEVANT = timedelta(seconds=RELEVANT_SECONDS)
# A row shows when its transaction commits, which may be after a later row has been read: so every reading goes back
# this far, which is far longer than a transaction here lasts.
OVERLAP = timedelta(seconds=30)
# Read in a fifth of a second. Without a bound whoever starts after 100,000 logouts would never be done in time.
PAGE = 10_000
# Microseconds since 1970, and within a list of several pages the last row's id; for its readers just a word.
CURSOR = r"^[0-9]{1,16}(\.[0-9a-f]{32})?$"
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


async def void_session(session: AsyncSession, sid: UUID) -> None:
    """End one session: its refresh tokens and its access tokens."""
    await _end_refresh_tokens(session, col(RefreshToken.family) == sid)
    await _record(session, [sid], ENDED)


async def void_sessions(session: AsyncSession, user: User) -> None:
    """End every session of `user`, whose row the caller has locked."""
    user.epoch += 1
    await _record(session, await _recent_sessions(session, user), ENDED)
    await _end_refresh_tokens(session, col(RefreshToken.user_id) == user.id)


async def void_tokens(session: AsyncSession, user: User) -> None:
    """Void the access tokens of `user`, whose row the caller has locked; a refresh gets one of the new epoch."""
    user.epoch += 1
    await _record(session, await _recent_sessions(session, user), user.epoch)


async def read(session: AsyncSession, since: str | None) -> RevocationPage:
    """A page of what was revoked since an earlier one's `next`, or of all that can still matter."""
    now: datetime = (await session.exec(select(func.now()))).one()
    at, row_id = col(Revocation.at), col(Revocation.id)
    columns = select(Revocation.sid, Revocation.epoch, Revocation.at, Revocation.id)
    rows = (await session.exec(columns.where(_later(since, now)).order_by(at, row_id).limit(PAGE))).all()
    more = len(rows) == PAGE
    return RevocationPage(
        revocations=[Revoked(sid=str(sid), epoch=epoch) for sid, epoch, _, _ in rows],
        next=f"{_microseconds(rows[-1][2])}.{rows[-1][3].hex}" if more else str(_microseconds(now - OVERLAP)),
        more=more,
    )


def database_source(sessions: Sessions) -> RevocationSource:
    """What auth's own verifier reads."""

    async def read_here(since: str | None) -> RevocationPage:
        async with sessions() as session:
            return await read(session, since)

    return read_here


async def forget_old(session: AsyncSession) -> None:
    """Delete what is over for good: revocations that no living token needs, and refresh tokens that have expired."""
    old = utc_now() - RELEVANT
    await session.exec(delete(Revocation).where(col(Revocation.at) < old - OVERLAP))
    # Not before, because a session is known by them as long as its access tokens live.
    await session.exec(delete(RefreshToken).where(col(RefreshToken.expires_at) < old))


async def _recent_sessions(session: AsyncSession, user: User) -> Sequence[UUID]:
    """Sessions that may have a living access token: each one was given out with a refresh token.

    Those that have ended are listed already; listed again by every later end, they would become ever more.
    """
    recent, live = col(RefreshToken.created_at) > utc_now() - RELEVANT, col(RefreshToken.revoked_at).is_(None)
    query = select(RefreshToken.family).where(RefreshToken.user_id == user.id, recent, live).distinct()
    return (await session.exec(query)).all()


async def _end_refresh_tokens(session: AsyncSession, which: ColumnElement[bool]) -> None:
    live = col(RefreshToken.revoked_at).is_(None)
    await session.exec(update(RefreshToken).where(which, live).values(revoked_at=utc_now()))


async def _record(session: AsyncSession, sids: Sequence[UUID], epoch: int) -> None:
    rows = [{"id": uuid7(), "sid": sid, "epoch": epoch} for sid in sids]
    if rows:
        # By the database's clock: several processes write, and their own may differ. All rows in one statement could
        # have more parameters than Postgres takes: whoever signed in ten thousand times could not be banned.
        await session.exec(insert(Revocation).values(at=func.clock_timestamp()), params=rows)


def _later(since: str | None, now: datetime) -> ColumnElement[bool]:
    if since is None:
        return col(Revocation.at) >= now - RELEVANT
    microseconds, _, row_id = since.partition(".")
    moment = _EPOCH + int(microseconds) * _MICROSECOND
    if row_id:
        return tuple_(col(Revocation.at), col(Revocation.id)) > (moment, UUID(row_id))
    # No later than now, since the clock may have been set back.
    return col(Revocation.at) >= min(moment, now - OVERLAP)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
