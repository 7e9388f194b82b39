"""Rotation of the signing keys: each is published before it signs, and as long as a token of it may live.

next ── published for 60 s ──▶ active ── another becomes active ──▶ retired ── its last token has expired ──▶ dropped

Every process of auth calls `advance` now and then, whichever comes first makes the step; all steps happen under one
lock and by the database's clock.
"""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk
from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from auth.models import Audit, KeyState, SigningKey
from auth.ops_shapes import KeyList, SigningKeyPublic
from auth.revocations import RELEVANT
from common.db import uuid7
from common.errors import ConflictError, NotFoundError, Text
from common.public_keys import ALGORITHM

KEY_BITS = 2048
# In a flood of made-up key ids a verifier asks for the keys every 30 s, of a process that has read them in the last
# 14 s, perhaps through a cache that keeps the answer for 15 s: it has seen a key that is published for longer.
PUBLISHED_BEFORE_USE = timedelta(seconds=60)
# No token of a retired key lives longer, whatever lifetime was set when it was signed.
KEPT_AFTER_USE = RELEVANT
# Any number, the same in every process.
_LOCK = 0x6A776B73


class KeyInUseError(ConflictError):
    code = "key_in_use"
    title = Text("Only a retired key can be dropped", "사용이 끝난 키만 삭제할 수 있습니다")


async def ensure_active(session: AsyncSession, encryption: Fernet) -> None:
    """Make the very first key, which nobody has to know before it signs."""
    await _lock(session)
    if await _in_state(session, "active") is None:
        key = await _generate(session, encryption, "active")
        session.add(Audit(actor="auth", action="signing_key.created", subject=key.kid))


async def start(session: AsyncSession, encryption: Fernet, actor: UUID) -> None:
    """Publish a new key, which will sign soon; nothing changes while an earlier one waits for its turn."""
    await advance(session)
    if await _in_state(session, "next") is None:
        key = await _generate(session, encryption, "next")
        session.add(Audit(actor=str(actor), action="signing_key.published", subject=key.kid))


async def advance(session: AsyncSession) -> None:
    """Take the steps that are due."""
    await _lock(session)
    now = await _now(session)
    following = await _in_state(session, "next")
    if following and following.state_since + PUBLISHED_BEFORE_USE <= now:
        active = await _in_state(session, "active")
        if active:
            _move(session, active, "retired", now)
            await session.flush()  # at no moment may two be active
        _move(session, following, "active", now)
    lapsed = select(SigningKey).where(SigningKey.state == "retired", SigningKey.state_since <= now - KEPT_AFTER_USE)
    for key in (await session.exec(lapsed)).all():
        await _drop(session, key, "auth")
    await session.flush()


async def drop(session: AsyncSession, kid: str, actor: UUID) -> None:
    """Drop a retired key before its time: its tokens are void. Raises NotFoundError, KeyInUseError."""
    await _lock(session)
    key = await session.get(SigningKey, kid)
    if key is None:
        raise NotFoundError
    if key.state != "retired":
        raise KeyInUseError
    await _drop(session, key, str(actor))


async def read_keys(session: AsyncSession) -> KeyList:
    """All keys, oldest first, and when the next step of each is due."""
    stored = (await session.exec(select(SigningKey).order_by(col(SigningKey.created_at)))).all()
    return KeyList(
        keys=[
            SigningKeyPublic(
                kid=key.kid,
                state=key.state,
                since=key.state_since,
                signs_from=key.state_since + PUBLISHED_BEFORE_USE if key.state == "next" else None,
                kept_until=key.state_since + KEPT_AFTER_USE if key.state == "retired" else None,
            )
            for key in stored
        ]
    )


async def _lock(session: AsyncSession) -> None:
    await session.exec(select(func.pg_advisory_xact_lock(_LOCK)))


async def _now(session: AsyncSession) -> datetime:
    """Not when the transaction began: it may have waited for the lock."""
    now: datetime = (await session.exec(select(func.clock_timestamp()))).one()
    return now


async def _in_state(session: AsyncSession, state: KeyState) -> SigningKey | None:
    return (await session.exec(select(SigningKey).where(SigningKey.state == state))).one_or_none()


def _move(session: AsyncSession, key: SigningKey, state: KeyState, now: datetime) -> None:
    key.state, key.state_since = state, now
    session.add(Audit(actor="auth", action=f"signing_key.{state}", subject=key.kid))


async def _drop(session: AsyncSession, key: SigningKey, actor: str) -> None:
    await session.delete(key)
    session.add(Audit(actor=actor, action="signing_key.dropped", subject=key.kid))


async def _generate(session: AsyncSession, encryption: Fernet, state: KeyState) -> SigningKey:
    # Some 100 ms of arithmetic, during which other requests go on.
    pem = await asyncio.to_thread(_private_key)
    kid = str(uuid7())
    public = jwk.construct(pem.decode(), ALGORITHM).public_key().to_dict()
    key = SigningKey(
        kid=kid,
        public_jwk={**public, "kid": kid, "use": "sig"},
        private_key=encryption.encrypt(pem),
        state=state,
        state_since=await _now(session),
    )
    session.add(key)
    await session.flush()
    return key


def _private_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
