"""What an admin does to an account: role, plan, ban, ending its sessions; at once, and written down with the reason."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from auth import revocations, user_search
from auth.models import Audit, User
from auth.ops_shapes import SignedOut, UserChange
from common.errors import ConflictError, NotFoundError, Text


class OwnAccountError(ConflictError):
    """With it there is always an admin left: whoever changes another account keeps their own role."""

    code = "own_account"
    title = Text("Nobody can take away their own access", "자신의 권한은 스스로 박탈할 수 없습니다")


class NotAnAdminError(ConflictError):
    """The token is some seconds older than the account's last change."""

    code = "no_longer_admin"
    title = Text("Your own account is no longer an active admin", "현재 계정은 더 이상 활성 관리자가 아닙니다")


async def change(session: AsyncSession, user_id: UUID, changes: UserChange, actor_id: UUID) -> None:
    """Make the changes that are any; raises NotFoundError, OwnAccountError, NotAnAdminError."""
    user = await locked(session, user_id, actor_id)
    after = {field: value for field, value in changes.wanted().items() if value != getattr(user, field)}
    if not after:
        return
    if user_id == actor_id and after.keys() & {"role", "status"}:
        raise OwnAccountError
    before = {field: getattr(user, field) for field in after}
    user.sqlmodel_update(after)
    if after.get("status") == "banned":
        await revocations.void_sessions(session, user)
    elif after.keys() & {"role", "plan"}:
        await revocations.void_tokens(session, user)
    _record(session, "user.changed", user_id, actor_id, before=before, after=after, reason=changes.reason)


async def sign_out(session: AsyncSession, user_id: UUID, reason: str | None, actor_id: UUID) -> SignedOut:
    """End all sessions of an account; raises NotFoundError, NotAnAdminError."""
    user = await locked(session, user_id, actor_id)
    ended = await user_search.count_sessions(session, user_id)
    await revocations.void_sessions(session, user)
    _record(session, "user.signed_out", user_id, actor_id, sessions=ended, reason=reason)
    return SignedOut(sessions=ended)


async def locked(session: AsyncSession, user_id: UUID, actor_id: UUID) -> User:
    """The account to change, once both rows are locked: two admins who demote each other take turns.

    Raises NotFoundError, NotAnAdminError.
    """
    # By id, or the two would wait for each other for ever.
    query = select(User).where(col(User.id).in_([user_id, actor_id])).order_by(col(User.id))
    rows = (
        await session.exec(query.with_for_update(key_share=True), execution_options={"populate_existing": True})
    ).all()
    users = {user.id: user for user in rows}
    actor = users.get(actor_id)
    if actor is None or actor.role != "admin" or actor.status != "active":
        raise NotAnAdminError
    if user_id not in users:
        raise NotFoundError
    return users[user_id]


def _record(session: AsyncSession, action: str, user_id: UUID, actor_id: UUID, **detail: object) -> None:
    given = {name: value for name, value in detail.items() if value is not None}
    session.add(Audit(actor=str(actor_id), action=action, subject=str(user_id), detail=given))
