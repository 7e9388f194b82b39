"""The keys that sign tokens: made at first start, encrypted at rest, published as a JWK set."""

import logging
import time
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Signer:
    """The private key in use, parsed once because parsing costs more than signing."""

    kid: str
    key: Key


class KeyRing:
    """The signing keys of this deployment, held in memory and re-read now and then."""

    def __init__(self, sessions: Sessions, encryption: Fernet, *, reread_seconds: float = REREAD_SECONDS) -> None:
        self._sessions = sessions
        self._encryption = encryption
        self._reread_seconds = reread_seconds
        self._published: list[JWK] = []
        self._signer: Signer | None = None
        self._read_at = float("-inf")

    async def open(self) -> None:
        """Read the keys, making the first one if there is none; call once before use."""
        async with self._sessions.begin() as session:
            await session.exec(select(func.pg_advisory_xact_lock(_FIRST_KEY_LOCK)))
            active = await session.exec(select(SigningKey).where(SigningKey.state == "active"))
            if active.one_or_none() is None:
                key = _generate(self._encryption)
                session.add(key)
                session.add(Audit(actor="auth", action="signing_key.created", subject=key.kid))
        async with self._sessions() as session:
            await self._read(session)

    async def signer(self) -> Signer:
        """The key to sign with."""
        await self._reread_when_old()
        if self._signer is None:
            raise RuntimeError("the key ring was not opened")
        return self._signer

    async def published(self) -> list[JWK]:
        """The public keys that tokens may be signed with, now or soon."""
        await self._reread_when_old()
        return self._published

    async def _reread_when_old(self) -> None:
        if time.monotonic() - self._read_at < self._reread_seconds:
            return
        self._read_at = time.monotonic()  # before the wait: one caller reads, the others go on with what is known
        try:
            async with self._sessions() as session:
                await self._read(session)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("could not re-read the signing keys", extra={"reason": type(error).__name__})

    async def _read(self, session: AsyncSession) -> None:
        keys = (await session.exec(select(SigningKey).order_by(col(SigningKey.created_at)))).all()
        active = next(key for key in keys if key.state == "active")
        if self._signer is None or self._signer.kid != active.kid:
            self._signer = Signer(active.kid, jwk.construct(_decrypt(self._encryption, active), ALGORITHM))
        self._published = [key.public_jwk for key in keys]
        self._read_at = time.monotonic()


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
