"""Marks of erased accounts: a keyed hash of issuer and subject, so that a ban outlasts the account.

Without the key nobody can tell whose mark it is, nor try subjects out; with it one can only ask for a given person.
"""

import hashlib
import hmac

from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert
from sqlmodel.ext.asyncio.session import AsyncSession

from auth.models import ErasedIdentity, User
from auth.users import AccountBannedError
from common.db import utc_now


def digest(key: SecretStr, issuer: str, subject: str) -> bytes:
    """The name of an identity; each part follows its length, so no two share one."""
    parts = (part.encode() for part in (issuer, subject))
    text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return hmac.new(key.get_secret_value().encode(), text, hashlib.sha256).digest()


async def mark(session: AsyncSession, key: SecretStr, user: User) -> None:
    """Write down that this identity was erased; once more if it came back, which a banned one cannot."""
    values = {"banned": user.status == "banned", "at": utc_now()}
    upsert = insert(ErasedIdentity).values(digest=digest(key, user.issuer, user.subject), **values)
    await session.exec(upsert.on_conflict_do_update(index_elements=["digest"], set_=values))


async def refuse_banned(session: AsyncSession, key: SecretStr, user: User) -> None:
    """Raises AccountBannedError for an account whose identity was banned when it was erased.

    Asked after the account's row was made or found: an erasure that was under way then has ended.
    """
    erased = await session.get(ErasedIdentity, digest(key, user.issuer, user.subject))
    if erased and erased.banned:
        raise AccountBannedError
