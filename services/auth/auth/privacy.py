"""What auth holds of a person: the account, its sessions, and the audit. Deleted, or put under a pseudonym."""

from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import String, cast, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col, update
from sqlmodel.ext.asyncio.session import AsyncSession

from auth import erased_identities, revocations
from auth.models import Audit, User

# Of changes to an account: free words about a person, which say nothing without that person.
REASON = "reason"


async def delete_account(
    session: AsyncSession, user_id: UUID, pseudonym: UUID, key: SecretStr, *, by: UUID | None
) -> bool:
    """End all sessions and delete the account, for its owner or `by` an operator; False when it is gone already."""
    user = await session.get(User, user_id, with_for_update=True)
    if user is None:
        return False
    await revocations.void_sessions(session, user)
    await erased_identities.mark(session, key, user)
    await pseudonymise(session, user_id, pseudonym)
    session.add(Audit(actor=str(by or pseudonym), action="user.erased", subject=str(pseudonym)))
    await session.delete(user)  # and with it the refresh tokens
    return True


async def pseudonymise(session: AsyncSession, user_id: UUID, pseudonym: UUID) -> None:
    """Put the pseudonym wherever the person's id stands in the audit; a repetition finds nothing."""
    person, stand_in = str(user_id), str(pseudonym)
    about = update(Audit).where(col(Audit.subject) == person)
    await session.exec(about.values(subject=stand_in, detail=col(Audit.detail).op("-")(REASON)))
    await session.exec(update(Audit).where(col(Audit.actor) == person).values(actor=stand_in))
    text = cast(col(Audit.detail), String)
    mention = update(Audit).where(text.contains(person))
    await session.exec(mention.values(detail=cast(func.replace(text, person, stand_in), JSONB)))
