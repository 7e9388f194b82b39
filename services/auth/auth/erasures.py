"""Erasing a person everywhere: ordered in one transaction, carried out by every service, tried until it is done.

The transaction deletes the account and writes down, sealed, who it was. What follows may stop at any point and be
repeated by any process: each service erases what it finds, and finding nothing is fine. Some minutes later all are
asked once more, since a request that was under way may have written something after the first time; then the seal is
thrown away, and nothing leads from the pseudonym to the person.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Self
from uuid import UUID, uuid4

from cryptography.fernet import Fernet, InvalidToken
from prometheus_client import Counter, Gauge
from pydantic import BaseModel, ConfigDict, SecretStr
from sqlalchemy import func
from sqlmodel import col, select

from auth import privacy, user_changes, users
from auth.clients import Holder
from auth.models import Erasure
from common.background import in_background
from common.db import Sessions, utc_now
from common.errors import NotFoundError

logger = logging.getLogger(__name__)

# The player waits for the first attempt. Later ones may take what a service needs for thousands of rows.
AT_ONCE_SECONDS = 4.0
PATIENT_SECONDS = 75.0
# While it lasts nobody else tries; longer than an attempt takes, so only a process that died leaves it to lapse.
LEASE = timedelta(seconds=90)
LONGEST_PAUSE_SECONDS = 60
POLL_SECONDS = 1.0
AT_THE_SAME_TIME = 10
OVERDUE = timedelta(hours=1)

State = Literal["pending", "done"]

pending_erasures = Gauge("auth_erasures_pending", "Erasures that some service has not carried out yet")
oldest_erasure = Gauge("auth_erasure_oldest_seconds", "Age of the oldest of them")
failures = Counter("auth_erasure_failures_total", "Times that a service did not carry out an erasure", ["service"])


class Receipt(BaseModel):
    """How far an erasure is: `done` once every service has carried it out."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    state: State
    services: dict[str, State]
    requested_at: datetime
    finished_at: datetime | None


class Person(BaseModel):
    """Who is erased, and what stands in their place."""

    user_id: UUID
    pseudonym: UUID


@dataclass(frozen=True)
class Erasures:
    """Orders erasures and sees them through. `repeat_after`: when, after the order, everybody is asked once more."""

    sessions: Sessions
    holders: Sequence[Holder]
    seal: Fernet
    identity_key: SecretStr
    repeat_after: Sequence[timedelta]

    async def order(self, user_id: UUID, *, by: UUID | None = None) -> Receipt:
        """Delete the account, then let every service erase; for its owner, or `by` an operator.

        Raises what `users.get` does for its owner, and what `user_changes.locked` does for an operator.
        """
        person = Person(user_id=user_id, pseudonym=uuid4())
        erasure = Erasure(
            services={"auth": "done", **{holder.name: "pending" for holder in self.holders}},
            sealed=self.seal.encrypt(person.model_dump_json().encode()),
            due_at=utc_now() + LEASE,
        )
        async with self.sessions.begin() as session:
            if by:
                user = await user_changes.locked(session, user_id, by)
            else:
                user = await users.get(session, user_id, with_for_update=True)
            await privacy.delete_account(session, user, person.pseudonym, self.identity_key, by=by)
            session.add(erasure)
        logger.info("erasure ordered", extra={"erasure": str(erasure.id)})
        try:
            return await self._attempt(erasure.id, person, AT_ONCE_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is ordered all the same
            logger.warning("erasure left for later", extra={"reason": type(error).__name__})
            return _receipt(erasure)

    async def receipt(self, erasure_id: UUID) -> Receipt:
        """How far an erasure is; raises NotFoundError."""
        async with self.sessions() as session:
            erasure = await session.get(Erasure, erasure_id)
        if erasure is None:
            raise NotFoundError
        return _receipt(erasure)

    @asynccontextmanager
    async def pursued(self) -> AsyncIterator[Self]:
        """See erasures through until the end of the block; several processes share the work."""
        async with in_background(self._pursue()):
            yield self

    async def _pursue(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                while await self.carry_out_due():
                    pass
                await self._measure()
            except Exception as error:  # noqa: BLE001 - whatever it was, giving up would strand every erasure
                logger.warning("erasures cannot be carried out", extra={"reason": type(error).__name__})

    async def carry_out_due(self) -> int:
        """One more attempt at some of those whose time has come; how many there were."""
        now = utc_now()
        due = (
            select(Erasure)
            .where(col(Erasure.sealed).is_not(None), col(Erasure.due_at) <= now)
            .order_by(col(Erasure.due_at))
            .limit(AT_THE_SAME_TIME)
            .with_for_update(skip_locked=True)
        )
        async with self.sessions.begin() as session:
            erasures = (await session.exec(due)).all()
            for erasure in erasures:
                erasure.due_at = now + LEASE
        await asyncio.gather(*(self._attempt_sealed(erasure) for erasure in erasures))
        return len(erasures)

    async def _attempt_sealed(self, erasure: Erasure) -> None:
        try:
            person = Person.model_validate_json(self.seal.decrypt(erasure.sealed or b""))
        except InvalidToken:
            logger.error("erasure sealed with another key", extra={"erasure": str(erasure.id)})
            return
        await self._attempt(erasure.id, person, PATIENT_SECONDS)

    async def _attempt(self, erasure_id: UUID, person: Person, seconds: float) -> Receipt:
        """Ask every service, those too that are done: it costs them nothing, and something may have come late."""
        calls = (holder.erase(person.user_id, person.pseudonym, within_seconds=seconds) for holder in self.holders)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        failed = {holder.name: error for holder, error in zip(self.holders, outcomes, strict=True) if error is not None}
        for name, error in failed.items():
            failures.labels(name).inc()
            reason = {"callee": name, "reason": type(error).__name__}
            logger.warning("erasure not carried out", extra={"erasure": str(erasure_id), **reason})
        async with self.sessions.begin() as session:
            await privacy.pseudonymise(session, person.user_id, person.pseudonym)
            erasure = await session.get_one(Erasure, erasure_id, with_for_update=True, populate_existing=True)
            self._note(erasure, failed.keys(), utc_now())
        return _receipt(erasure)

    def _note(self, erasure: Erasure, failed: Collection[str], now: datetime) -> None:
        """Write down who is done, and when to go on; after the last repetition, forget who it was."""
        erasure.attempts += 1
        erasure.services = {name: state if name in failed else "done" for name, state in erasure.services.items()}
        if failed:
            erasure.due_at = now + timedelta(seconds=min(2**erasure.attempts, LONGEST_PAUSE_SECONDS))
            if now - erasure.requested_at > OVERDUE:
                logger.warning("erasure overdue", extra={"erasure": str(erasure.id), "callees": sorted(failed)})
            return
        erasure.finished_at = erasure.finished_at or now
        later = [moment for after in self.repeat_after if (moment := erasure.requested_at + after) > now]
        erasure.due_at = min(later, default=now)
        if not later:
            erasure.sealed = None
            logger.info("erasure finished", extra={"erasure": str(erasure.id)})

    async def _measure(self) -> None:
        unfinished = (col(Erasure.sealed).is_not(None), col(Erasure.finished_at).is_(None))
        async with self.sessions() as session:
            query = select(func.count(), func.min(Erasure.requested_at)).where(*unfinished)
            count, oldest = (await session.exec(query)).one()
        pending_erasures.set(count)
        oldest_erasure.set((utc_now() - oldest).total_seconds() if count else 0)


def _receipt(erasure: Erasure) -> Receipt:
    shown = erasure.model_dump(include={"id", "services", "requested_at", "finished_at"})
    return Receipt(**shown, state="done" if erasure.finished_at else "pending")
