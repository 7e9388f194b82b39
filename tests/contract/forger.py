"""Makes tokens: as auth does, and in all the ways that a verifier must not fall for."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from common.testing import Tokens

Sign = Callable[[bytes], bytes]
NOW = int(time.time())
HOUR = 3600
# In place of a claim's or a header's value: there is none.
ABSENT = object()


def encoded(content: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Forger:
    """Has a token's right claims, and for the worst case the key of auth itself."""

    def __init__(self, tokens: Tokens, claims: Mapping[str, Any]) -> None:
        self.claims = {"iss": "dugout", "iat": NOW, "nbf": NOW, "exp": NOW + HOUR // 2, "jti": "7", **claims}
        self.key = tokens.private_key
        self.jwk = tokens.public_jwk()

    def genuine(self, headers: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | None = None) -> str:
        """Signed by auth's key, with these changes."""
        return self.written(to_json(self._headers(headers)), to_json(_changed(self.claims, claims)), rs256(self.key))

    def by(self, sign: Sign, headers: Mapping[str, Any] | None = None) -> str:
        """The right claims, signed in another way."""
        return self.written(to_json(self._headers(headers)), to_json(self.claims), sign)

    @staticmethod
    def written(header: bytes, payload: bytes, sign: Sign) -> str:
        """A token of these very bytes."""
        signed = f"{encoded(header)}.{encoded(payload)}"
        return f"{signed}.{encoded(sign(signed.encode()))}"

    def public(self, encoding: serialization.Encoding, form: serialization.PublicFormat) -> bytes:
        """The public key, which everybody has, in one of its spellings."""
        return self.key.public_key().public_bytes(encoding, form)

    def _headers(self, changes: Mapping[str, Any] | None) -> dict[str, Any]:
        return _changed({"alg": "RS256", "typ": "JWT", "kid": self.jwk["kid"]}, changes)


Forgery = Callable[[Forger], str]


def _changed(right: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in {**right, **(changes or {})}.items() if value is not ABSENT}


def to_json(value: Any) -> bytes:
    """As small as auth writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


def rs256(key: rsa.RSAPrivateKey) -> Sign:
    """As auth signs."""
    return lambda content: key.sign(content, padding.PKCS1v15(), hashes.SHA256())
