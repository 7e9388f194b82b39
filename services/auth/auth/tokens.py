"""Access tokens: what is in one, for a person and for a service."""

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from jose import jwt

from auth.keys import KeyRing
from auth.models import User
from auth.shapes import ServiceToken
from common.db import uuid7
from common.identity import PLAYER_AUDIENCE
from common.public_keys import ALGORITHM


class TokenIssuer:
    """Signs access tokens; `common.identity` is the other side and names the claims."""

    def __init__(self, keys: KeyRing, *, issuer: str, lifetime_seconds: int) -> None:
        self._keys = keys
        self._issuer = issuer
        self.lifetime_seconds = lifetime_seconds

    def for_user(self, user: User, session_id: UUID) -> str:
        """A person's access token."""
        claims: dict[str, Any] = {
            "typ": "access",
            "aud": PLAYER_AUDIENCE,
            "sub": str(user.id),
            "sid": str(session_id),
            "role": user.role,
            "plan": user.plan,
            "epoch": user.epoch,
        }
        if user.locale:
            claims["locale"] = user.locale
        return self._sign(claims)

    def for_service(self, client_id: str, audience: str, scope: str) -> ServiceToken:
        """A client-credentials token with `scope`, space-separated, for one callee."""
        signed = self._sign({"typ": "service", "aud": audience, "sub": client_id, "scope": scope})
        return ServiceToken(access_token=signed, expires_in=self.lifetime_seconds, scope=scope)

    def _sign(self, claims: Mapping[str, Any]) -> str:
        signer = self._keys.signer
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + self.lifetime_seconds}
        every = {"iss": self._issuer, "jti": str(uuid7()), **times}
        signed: str = jwt.encode({**every, **claims}, signer.key, ALGORITHM, {"kid": signer.kid})
        return signed
