"""The keys of this deployment in memory: one signs, all are published as a JWK set, re-read now and then."""

import asyncio
import logging
import time
from typing import NamedTuple

from cryptography.fernet import Fernet, InvalidToken
from jose import jwk
from jose.backends.base import Key
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from auth import key_rotation
from auth.models import SigningKey
from common.db import Sessions
from common.errors import UnavailableError
from common.public_keys import ALGORITHM, JWK

logger = logging.getLogger(__name__)

# Each process learns of a rotation this late; how long a key is published before it signs allows for it.
REREAD_SECONDS = 5.0
# A process that could not re-read them for longer does not give them out: it may not know the key that signs next.
OLDEST_SECONDS = 14.0


class Signer(NamedTuple):
    """The private key in use, parsed once: parsing takes some 30 ms, signing 0.3."""

    kid: str
    key: Key


class Keys(NamedTuple):
    """The keys as last read."""

    signer: Signer
    published: list[JWK]


class KeyRing:
    """The keys, held in memory; `open_key_ring` makes it, `follow` keeps it up to date."""

    def __init__(self, sessions: Sessions, encryption: Fernet, keys: Keys) -> None:
        self._sessions = sessions
        self._encryption = encryption
        self._keys = keys
        self._read_at = time.monotonic()

    @property
    def signer(self) -> Signer:
        """The key to sign with."""
        return self._keys.signer

    async def published(self) -> list[JWK]:
        """The public keys that tokens may be signed with, now or soon; a `common.public_keys.KeySource`.

        Raises UnavailableError when that is not known; verifiers go on with what they have.
        """
        if time.monotonic() - self._read_at > OLDEST_SECONDS:
            raise UnavailableError
        return self._keys.published

    async def follow(self) -> None:
        """Re-read for ever."""
        while True:
            await asyncio.sleep(REREAD_SECONDS)
            await self.reread()

    async def reread(self) -> None:
        """Take the steps of a rotation that are due, then read; without the database all stays as it is."""
        began = time.monotonic()
        try:
            async with self._sessions.begin() as session:
                await key_rotation.advance(session)
                keys = await _read(session, self._encryption, self._keys.signer)
            self._keys, self._read_at = keys, began
        except Exception as error:  # noqa: BLE001 - whatever it was, the keys have to be read again
            logger.warning("could not re-read the signing keys", extra={"reason": type(error).__name__})


async def open_key_ring(sessions: Sessions, encryption: Fernet) -> KeyRing:
    """Read the keys, making the first one if there is none."""
    async with sessions.begin() as session:
        await key_rotation.ensure_active(session, encryption)
        keys = await _read(session, encryption)
    return KeyRing(sessions, encryption, keys)


async def _read(session: AsyncSession, encryption: Fernet, signer: Signer | None = None) -> Keys:
    """The keys as stored; `signer` is used again while its key is still the active one."""
    stored = (await session.exec(select(SigningKey).order_by(col(SigningKey.created_at)))).all()
    active = next(key for key in stored if key.state == "active")
    if signer is None or signer.kid != active.kid:
        signer = Signer(active.kid, jwk.construct(_decrypt(encryption, active), ALGORITHM))
    return Keys(signer, [key.public_jwk for key in stored])


def _decrypt(encryption: Fernet, key: SigningKey) -> str:
    try:
        return encryption.decrypt(key.private_key).decode()
    except InvalidToken as error:
        raise RuntimeError(
            "DUGOUT_KEY_ENCRYPTION_KEY is not the one that the signing key was encrypted with"
        ) from error
