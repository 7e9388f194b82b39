"""The keys that sign tokens: made at first start, encrypted at rest, published as a JWK set."""

import logging
import time
from typing import NamedTuple

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk
from jose.backends.base import Key
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from auth.models import Audit, SigningKey
from common.db import Sessions, uuid7
from common.identity import ALGORITHM, JWK

logger = logging.getLogger(__name__)

KEY_BITS = 2048
# Another process may have rotated the keys: a key is published far longer than this before it signs.
REREAD_SECONDS = 30.0
# Any number, the same in every process: held while looking for the active key and making the first one.
_FIRST_KEY_LOCK = 0x6A776B73


class Signer(NamedTuple):
    """The private key in use, parsed once: parsing takes some 30 ms, signing 0.3."""

    kid: str
    key: Key


class Keys(NamedTuple):
    """The keys of this deployment, as last read: one signs, all are published."""

    signer: Signer
    published: list[JWK]


class KeyRing:
    """The keys, held in memory and re-read now and then; `open_key_ring` makes it."""

    def __init__(self, sessions: Sessions, encryption: Fernet, keys: Keys, *, reread_seconds: float) -> None:
        self._sessions = sessions
        self._encryption = encryption
        self._keys = keys
        self._reread_seconds = reread_seconds
        self._read_at = time.monotonic()

    async def signer(self) -> Signer:
        """The key to sign with."""
        return (await self._current()).signer

    async def published(self) -> list[JWK]:
        """The public keys that tokens may be signed with, now or soon."""
        return (await self._current()).published

    async def _current(self) -> Keys:
        if time.monotonic() - self._read_at >= self._reread_seconds:
            self._read_at = time.monotonic()  # before the wait: one caller reads, the others go on with what is known
            try:
                async with self._sessions() as session:
                    self._keys = await _read(session, self._encryption, self._keys.signer)
            except (SQLAlchemyError, OSError) as error:
                logger.warning("could not re-read the signing keys", extra={"reason": type(error).__name__})
        return self._keys


async def open_key_ring(sessions: Sessions, encryption: Fernet, *, reread_seconds: float = REREAD_SECONDS) -> KeyRing:
    """Read the keys, making the first one if there is none."""
    async with sessions.begin() as session:
        await session.exec(select(func.pg_advisory_xact_lock(_FIRST_KEY_LOCK)))
        active = await session.exec(select(SigningKey).where(SigningKey.state == "active"))
        if active.one_or_none() is None:
            key = _generate(encryption)
            session.add(key)
            session.add(Audit(actor="auth", action="signing_key.created", subject=key.kid))
            await session.flush()
        keys = await _read(session, encryption)
    return KeyRing(sessions, encryption, keys, reread_seconds=reread_seconds)


async def _read(session: AsyncSession, encryption: Fernet, signer: Signer | None = None) -> Keys:
    """The keys as stored; `signer` is used again while its key is still the active one."""
    stored = (await session.exec(select(SigningKey).order_by(col(SigningKey.created_at)))).all()
    active = next(key for key in stored if key.state == "active")
    if signer is None or signer.kid != active.kid:
        signer = Signer(active.kid, jwk.construct(_decrypt(encryption, active), ALGORITHM))
    return Keys(signer, [key.public_jwk for key in stored])


def _generate(encryption: Fernet) -> SigningKey:
    pem = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kid = str(uuid7())
    public = jwk.construct(pem.decode(), ALGORITHM).public_key().to_dict()
    return SigningKey(
        kid=kid,
        public_jwk={**public, "kid": kid, "use": "sig"},
        private_key=encryption.encrypt(pem),
        state="active",
    )


def _decrypt(encryption: Fernet, key: SigningKey) -> str:
    try:
        return encryption.decrypt(key.private_key).decode()
    except InvalidToken as error:
        raise RuntimeError(
            "DUGOUT_KEY_ENCRYPTION_KEY is not the one that the signing key was encrypted with"
        ) from error
