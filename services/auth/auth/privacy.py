"""What auth holds of a person: the account, its sessions, and the audit. Deleted, or put under a pseudonym."""

from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import String, cast, func, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col, update
from sqlmodel.ext.asyncio.session import AsyncSession

from auth import erased_identities, revocations
from auth.models import Audit, User

# Of changes to an account: free words about a person, which say nothing without that person.
REASON = "reason"


async def delete_account(
    session: AsyncSession, user: User, pseudonym: UUID, key: SecretStr, *, by: UUID | None
) -> None:
    """End all sessions and delete the account, whose row the caller has locked, for its owner or `by` an operator."""
    await revocations.void_sessions(session, user)
    await erased_identities.mark(session, key, user)
    await pseudonymise(session, user.id, pseudonym)
    session.add(Audit(actor=str(by or pseudonym), action="user.erased", subject=str(pseudonym)))
    await session.delete(user)  # and with it the refresh tokens


async def pseudonymise(session: AsyncSession, user_id: UUID, pseudonym: UUID) -> None:
    """Put the pseudonym in the place of the person's id in the audit; a repetition finds nothing."""
    person, stand_in = str(user_id), str(pseudonym)
    about, by = col(Audit.subject) == person, col(Audit.actor) == person
    await session.exec(update(Audit).where(about).values(detail=col(Audit.detail).op("-")(REASON)))
    detail = func.replace(cast(col(Audit.detail), String), person, stand_in)
    renamed = {name: func.replace(getattr(Audit, name), person, stand_in) for name in ("actor", "subject")}
    await session.exec(update(Audit).where(or_(about, by)).values(**renamed, detail=cast(detail, JSONB)))
