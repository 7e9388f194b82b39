"""Accounts: found or made by issuer and subject, read, changed by their owner, counted."""

from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from auth import revocations
from auth.models import Audit, Locale, User
from auth.shapes import Stats, UserUpdate
from common.claims import Plan, Role
from common.db import utc_now, uuid7
from common.errors import ForbiddenError, Text, UnauthorizedError


class AccountBannedError(ForbiddenError):
    code = "account_banned"
    title = Text("This account is banned", "이용이 정지된 계정입니다")


async def find_or_create(
    session: AsyncSession,
    *,
    issuer: str,
    subject: str,
    email: str | None,
    name: str | None = None,
    locale: Locale | None = None,
) -> User:
    """The account signing in, made at its first time; its row is locked, so sign-in and revocation take turns.

    The address follows the issuer; name and locale are only where an account starts, later they are its owner's.
    """
    now = utc_now()
    first = {"id": uuid7(), "issuer": issuer, "subject": subject, "name": name, "locale": locale, "created_at": now}
    upsert = (
        insert(User)
        .values(**first, email=email, last_login_at=now, role="player", plan="free", status="active", epoch=0)
        .on_conflict_do_update(
            index_elements=[col(User.issuer), col(User.subject)], set_={"email": email, "last_login_at": now}
        )
        .returning(User)
    )
    user = (await session.exec(upsert, execution_options={"populate_existing": True})).scalars().one()
    return refuse_banned(user)


def refuse_banned(user: User) -> User:
    """The same user; raises AccountBannedError."""
    if user.status == "banned":
        raise AccountBannedError
    return user


async def grant(
    session: AsyncSession, user: User, *, role: Role | None = None, plan: Plan | None = None, by: str
) -> None:
    """Set role and plan where given. A change voids earlier access tokens, which still carry the old ones."""
    changes = {
        field: value
        for field, value in (("role", role), ("plan", plan))
        if value is not None and value != getattr(user, field)
    }
    if not changes:
        return
    for field, value in changes.items():
        setattr(user, field, value)
    await revocations.void_tokens(session, user)
    session.add(Audit(actor=by, action="user.granted", subject=str(user.id), detail=changes))


async def get(session: AsyncSession, user_id: UUID, **options: Any) -> User:
    """The account behind a valid token; raises UnauthorizedError when it is gone, AccountBannedError."""
    user = await session.get(User, user_id, **options)
    if user is None:
        raise UnauthorizedError
    return refuse_banned(user)


async def update(session: AsyncSession, user_id: UUID, changes: UserUpdate) -> User:
    """Change what `changes` names."""
    user = await get(session, user_id, with_for_update={"key_share": True})  # or it might be gone before it is changed
    user.sqlmodel_update(changes.model_dump(exclude_unset=True))
    return user


async def count(session: AsyncSession) -> Stats:
    """Players who may sign in, and how many of them pay; staff are not players."""
    premium_rows = func.count().filter(col(User.plan) == "premium")
    counted = select(func.count(), premium_rows).where(User.role == "player", User.status == "active")
    players, premium = (await session.exec(counted)).one()
    return Stats(players=players, premium=premium, premium_share=round(premium / players, 4) if players else 0.0)
