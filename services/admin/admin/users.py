"""Changes to users, each with its row in the audit; who they are stays with auth.

Each begins with a look at the user: who is not there leaves no row, or the audit would name an erased person again.
"""

from uuid import UUID

from admin.audit import audited
from admin.auth_clients import UsersClient
from admin.auth_models import Erasure, SignedOut, SignOut, UserChange, UserDetail
from common.db import Sessions
from common.identity import User


async def change(user_id: UUID, changes: UserChange, admin: User, sessions: Sessions, users: UsersClient) -> UserDetail:
    """Change role, plan or status; raises NotFoundError and what auth says."""
    before = (await users.show(user_id, admin)).rights()
    async with audited(sessions, admin, "user.change", str(user_id), before) as entry:
        user = await users.change(user_id, changes, admin)
        entry.after = {**user.rights(), "reason": changes.reason}
    return user


async def sign_out(user_id: UUID, body: SignOut, admin: User, sessions: Sessions, users: UsersClient) -> SignedOut:
    """End all sessions of a user; raises NotFoundError and what auth says."""
    await users.show(user_id, admin)
    async with audited(sessions, admin, "user.sign_out", str(user_id)) as entry:
        ended = await users.sign_out(user_id, body, admin)
        entry.after = {"sessions": ended.sessions, "reason": body.reason}
    return ended


async def erase(user_id: UUID, admin: User, sessions: Sessions, users: UsersClient) -> Erasure:
    """Erase a user everywhere; raises NotFoundError and what auth says. The row itself gets the pseudonym by it."""
    await users.show(user_id, admin)
    async with audited(sessions, admin, "user.erase", str(user_id)) as entry:
        erasure = await users.erase(user_id, admin)
        entry.after = {"erasure": str(erasure.id)}
    return erasure
