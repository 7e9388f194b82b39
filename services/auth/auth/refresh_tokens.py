"""Refresh tokens: opaque, stored as hashes, exchanged for a new one at every use, in families that theft ends.

A client with several tabs may present one token several times at once, so within `REUSE_WINDOW` each presentation gets
a sibling. Later it can only be a copy, and nobody knows whose: the whole family ends.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from auth import revocations, users
from auth.models import Audit, RefreshToken, User
from common.db import utc_now, uuid7
from common.errors import Text, UnauthorizedError

REUSE_WINDOW = timedelta(seconds=10)


class InvalidRefreshTokenError(UnauthorizedError):
    code = "invalid_refresh_token"
    title = Text("Your session has ended, please sign in again", "세션이 만료되었습니다. 다시 로그인해 주세요")


class Redeemed(NamedTuple):
    """A refresh token that holds, when it was presented, and its owner, locked until the transaction ends."""

    user: User
    token: RefreshToken
    at: datetime


def start_family(session: AsyncSession, user: User, lifetime: timedelta) -> tuple[UUID, str]:
    """A new session of `user`: its id, and its first refresh token."""
    family = uuid7()
    return family, _add(session, user.id, family, lifetime)


async def redeem(session: AsyncSession, presented: str) -> Redeemed | None:
    """Look up a presented token; None when it does not hold. A replay ends its family, so commit either way.

    Raises AccountBannedError, which says more than that a ban has ended the session.
    """
    digest = _digest(presented)
    # By the database's clock: two processes need not agree on ten seconds.
    presented_token = select(RefreshToken, func.clock_timestamp()).where(RefreshToken.token_hash == digest)
    owner = select(RefreshToken.user_id).where(RefreshToken.token_hash == digest).scalar_subquery()
    # The owner's row is the lock under which families change; it is taken before the token's state is read.
    user = (await session.exec(select(User).where(User.id == owner).with_for_update(key_share=True))).one_or_none()
    if user is None:
        return None
    users.refuse_banned(user)
    token, now = (await session.exec(presented_token)).one()
    if token.revoked_at or token.expires_at <= now:
        return None
    if token.used_at and now - token.used_at > REUSE_WINDOW:
        await revocations.void_session(session, token.family)
        session.add(_audit(user, "session.replayed", token.family))
        return None
    return Redeemed(user, token, now)


def rotate(session: AsyncSession, redeemed: Redeemed, lifetime: timedelta) -> str:
    """The token that follows the redeemed one in its family."""
    user, token, now = redeemed
    token.used_at = token.used_at or now
    return _add(session, user.id, token.family, lifetime)


async def end_family(session: AsyncSession, redeemed: Redeemed) -> None:
    """End the one session that the token belongs to."""
    await revocations.void_session(session, redeemed.token.family)
    session.add(_audit(redeemed.user, "session.ended", redeemed.token.family))


async def end_all(session: AsyncSession, redeemed: Redeemed) -> None:
    """End every session of the token's owner."""
    await revocations.void_sessions(session, redeemed.user)
    session.add(_audit(redeemed.user, "session.ended_everywhere", redeemed.token.family))


def _add(session: AsyncSession, user_id: UUID, family: UUID, lifetime: timedelta) -> str:
    token = secrets.token_urlsafe(32)
    now = utc_now()
    session.add(
        RefreshToken(
            user_id=user_id,
            family=family,
            token_hash=_digest(token),
            created_at=now,
            expires_at=now + lifetime,
        )
    )
    return token


def _audit(user: User, action: str, family: UUID) -> Audit:
    return Audit(actor=str(user.id), action=action, subject=str(user.id), detail={"sid": str(family)})


def _digest(token: str) -> bytes:
    # 256 random bits cannot be guessed, so a plain hash keeps a stolen table useless; a slow one would only cost time.
    return hashlib.sha256(token.encode()).digest()
