"""Every change leaves a row: who, what, before and after, and whether it happened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlmodel import col, update

from admin.models import Audit, Outcome
from common import logs
from common.db import Sessions
from common.identity import User


@asynccontextmanager
async def audited(
    sessions: Sessions, actor: User, action: str, target: str, before: dict[str, Any] | None = None
) -> AsyncIterator[Audit]:
    """Record the change made in this block; the block sets `after`.

    The row is committed before the change is asked for, since the change happens in another service and cannot be
    rolled back: there may be a row without a change, never a change without a row.
    """
    entry = Audit(actor_id=actor.id, action=action, target=target, before=before, request_id=logs.request_id.get())
    async with sessions.begin() as session:
        session.add(entry)
    try:
        yield entry
    except BaseException:
        await _close(sessions, entry, "failed")
        raise
    await _close(sessions, entry, "done")


async def _close(sessions: Sessions, entry: Audit, outcome: Outcome) -> None:
    # These two alone: who did it may have been erased meanwhile.
    ending = {"outcome": outcome, "after": entry.after}
    async with sessions.begin() as session:
        await session.exec(update(Audit).where(col(Audit.id) == entry.id).values(**ending))
