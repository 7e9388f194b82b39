"""Changes to auth's signing keys, each with its row in the audit."""

from uuid import UUID

from admin.audit import audited
from admin.auth_clients import KeysClient
from admin.auth_models import KeyList
from common.db import Sessions
from common.identity import User


async def rotate(admin: User, sessions: Sessions, keys: KeysClient) -> KeyList:
    """Publish the key that signs next; while one waits this changes nothing."""
    async with audited(sessions, admin, "signing_key.rotate", "signing_key") as entry:
        rotated = await keys.rotate(admin)
        entry.after = {key.kid: key.state for key in rotated.keys}
    return rotated


async def drop(kid: UUID, admin: User, sessions: Sessions, keys: KeysClient) -> None:
    """Drop a retired key before its time; raises NotFoundError and what auth says."""
    async with audited(sessions, admin, "signing_key.drop", str(kid)):
        await keys.drop(kid, admin)
