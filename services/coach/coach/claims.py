"""Idempotency keys: whoever takes a key does the work, everyone after gets its result, nobody pays twice.

A claim is taken in a short transaction of its own, before the work; the result settles it in the transaction that
stores the result; a failure gives it back. The claim of a process that died lapses.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from coach.models import Claim
from common.db import Sessions, utc_now
from common.errors import ConflictError, InvalidError, Text

KEPT = timedelta(days=7)


class KeyReusedError(InvalidError):
    code = "idempotency_key_reused"
    title = Text("This idempotency key was used for another request", "다른 요청에 이미 사용된 멱등성 키입니다")


class InProgressError(ConflictError):
    code = "request_in_progress"
    title = Text("The first request with this key is still running", "같은 키의 첫 요청이 아직 처리 중입니다")

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


def asker(user_id: UUID) -> str:
    """Whose keys a player's are."""
    return f"ask:{user_id}"


def digest(request: Mapping[str, Any]) -> bytes:
    """What tells two requests with one key apart."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False, default=str).encode()).digest()


async def take(sessions: Sessions, owner: str, key: str, request_digest: bytes, lease: timedelta) -> UUID | None:
    """The id of the stored result, or None: the key is ours now, for `lease`.

    Raises InProgressError while another does the work, KeyReusedError when the key stands for another request.
    """
    now = utc_now()
    async with sessions.begin() as session:
        await _drop_lapsed(session, now)
        fresh = {"owner": owner, "key": key, "digest": request_digest, "expires_at": now + lease}
        statement = insert(Claim).values(fresh).on_conflict_do_nothing().returning(col(Claim.key))
        if (await session.exec(statement)).first():
            return None
        claim = await session.get(Claim, (owner, key))
    if claim is None or (claim.digest == request_digest and claim.result_id is None):
        raise InProgressError
    if claim.digest != request_digest:
        raise KeyReusedError
    return claim.result_id


async def settle(session: AsyncSession, owner: str, key: str, result_id: UUID) -> None:
    """Name the result, in the transaction that stores it."""
    await session.exec(_claim(update(Claim), owner, key).values(result_id=result_id, expires_at=utc_now() + KEPT))


async def release(sessions: Sessions, owner: str, key: str) -> None:
    """Give an unsettled claim back: the work failed and may be tried again."""
    async with sessions.begin() as session:
        await session.exec(_claim(delete(Claim), owner, key).where(col(Claim.result_id).is_(None)))


async def _drop_lapsed(session: AsyncSession, now: datetime) -> None:
    """Every claim past its time, except those another transaction is dropping at this moment."""
    identity = tuple_(col(Claim.owner), col(Claim.key))
    lapsed = select(Claim.owner, Claim.key).where(col(Claim.expires_at) < now).with_for_update(skip_locked=True)
    await session.exec(delete(Claim).where(identity.in_(lapsed)))


def _claim(statement: Any, owner: str, key: str) -> Any:
    return statement.where(col(Claim.owner) == owner, col(Claim.key) == key)
