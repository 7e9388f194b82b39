"""Accounts as ops find and see them: a page of a search, and one with its sessions and history."""

from uuid import UUID

from sqlalchemy import ColumnElement, distinct, func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from auth.models import Audit, RefreshToken, User
from auth.ops_shapes import AuditEntry, UserDetail, UserEntry, UserPage, UserSearch, UserSession
from common.db import utc_now
from common.errors import NotFoundError

# Of an account's history; more than anybody reads, and a bound on the reply.
NEWEST = 100


async def find(session: AsyncSession, asked: UserSearch) -> UserPage:
    """Accounts that match all that is asked; ids are by time, so the newest come first."""
    query = select(User).order_by(col(User.id).desc()).limit(asked.limit + 1)
    for field, value in asked.model_dump(include={"id", "role", "plan", "status"}, exclude_none=True).items():
        query = query.where(getattr(User, field) == value)
    if asked.email:
        query = query.where(col(User.email).startswith(asked.email.lower(), autoescape=True))
    if asked.name:
        query = query.where(col(User.name).icontains(asked.name, autoescape=True))
    if asked.cursor:
        query = query.where(col(User.id) < asked.cursor)
    found = (await session.exec(query)).all()
    shown = found[: asked.limit]
    return UserPage(
        users=[UserEntry.model_validate(user) for user in shown],
        next_cursor=shown[-1].id if len(found) > asked.limit else None,
    )


async def show(session: AsyncSession, user_id: UUID) -> UserDetail:
    """One account; raises NotFoundError."""
    user = await session.get(User, user_id)
    if user is None:
        raise NotFoundError
    history = select(Audit).where(Audit.subject == str(user_id)).order_by(col(Audit.id).desc()).limit(NEWEST)
    return UserDetail(
        **UserEntry.model_validate(user).model_dump(),
        sessions=await _sessions(session, user_id),
        audit=[AuditEntry.model_validate(entry) for entry in (await session.exec(history)).all()],
    )


async def count_sessions(session: AsyncSession, user_id: UUID) -> int:
    """How many sessions can still be refreshed."""
    families = select(func.count(distinct(col(RefreshToken.family)))).where(RefreshToken.user_id == user_id, *_live())
    return (await session.exec(families)).one()


async def _sessions(session: AsyncSession, user_id: UUID) -> list[UserSession]:
    """Sessions that can still be refreshed, the last used first; each use of one makes a token."""
    created, last_used = func.min(RefreshToken.created_at), func.max(RefreshToken.created_at)
    query = (
        select(RefreshToken.family, created, last_used)
        .where(RefreshToken.user_id == user_id)
        .group_by(col(RefreshToken.family))
        .having(func.count().filter(*_live()) > 0)
        .order_by(last_used.desc())
        .limit(NEWEST)
    )
    return [UserSession(sid=sid, created_at=first, last_used_at=last) for sid, first, last in await session.exec(query)]


def _live() -> tuple[ColumnElement[bool], ...]:
    return col(RefreshToken.revoked_at).is_(None), col(RefreshToken.expires_at) > utc_now()
