"""Google's side of a sign-in: the certificates it publishes and the ID tokens it signs, forged ones included."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from standins.standin import JSON, Exchange, Reply, Standin, run

CERTS = "/oauth2/v1/certs"
SIGN_IN = "/sign-in"
CLIENT_ID = "dugout.apps.googleusercontent.com"
ISSUER = "https://accounts.google.com"
LIFETIME_SECONDS = 3600


class SigningKey:
    """A key pair and the certificate in which Google publishes its public half."""

    def __init__(self) -> None:
        self.key_id = uuid4().hex
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "federated-signon.google.test")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, self._private.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=14))
            .sign(self._private, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, content: bytes) -> bytes:
        """An RS256 signature."""
        return self._private.sign(content, padding.PKCS1v15(), hashes.SHA256())


class GoogleStandin(Standin):
    """Publishes certificates at `certs_url`; `sign_in` gives the ID token a client would get from Google."""

    def __init__(self, *, max_age: int = 3600, log: Path | None = None) -> None:
        super().__init__(log=log)
        self.max_age = max_age  # seconds that a client may keep the certificates
        self.routes |= {("GET", CERTS): self._certificates, ("POST", SIGN_IN): self._sign_in}
        self._keys = [SigningKey()]
        self._stranger = SigningKey()

    @property
    def certs_url(self) -> str:
        """Goes where Google's https://www.googleapis.com/oauth2/v1/certs would."""
        return self.url + CERTS

    @property
    def fetches(self) -> int:
        """How often the certificates were asked for."""
        return sum(call.path == CERTS for call in self.calls)

    def trouble(self, reply: Reply) -> None:
        """Treat the next fetch of certificates so: `Reply(status=503)`, `Reply(reset=True)`, `Reply(hold=gate)`."""
        self.script(CERTS, reply)

    def rotate(self) -> None:
        """Sign with a new key; the one before stays published, as Google keeps it, older ones do not."""
        self._keys = [SigningKey(), self._keys[0]]

    def sign_in(
        self,
        *,
        subject: str = "109876543210987654321",
        email: str = "player@example.com",
        audience: str = CLIENT_ID,
        nonce: str | None = None,
        **claims: Any,
    ) -> str:
        """An ID token; `claims` replace what Google would say (`email_verified=False`), None leaves a claim out."""
        return self._token(self._claims(subject, email, audience, nonce) | claims)

    def forged(self, **options: Any) -> dict[str, str]:
        """Tokens to be refused, each by what is wrong with it; `options` are those of `sign_in`."""
        now = int(time.time())
        good = self.sign_in(**options)
        head, body, signature = good.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        certificate = self._keys[0].certificate.encode()
        return {
            "signed with another key": self._token(claims, sign=self._stranger.sign),
            "key never published": self._token(claims, {"kid": self._stranger.key_id}, self._stranger.sign),
            "expired": self._token({**claims, "iat": now - 7200, "exp": now - 3600}),
            "issued in the future": self._token({**claims, "iat": now + 3600, "exp": now + 7200}),
            "for another audience": self._token({**claims, "aud": "another.apps.googleusercontent.com"}),
            "by another issuer": self._token({**claims, "iss": "https://accounts.google.com.example"}),
            "changed after signing": f"{head}.{_encode({**claims, 'sub': 'someone else'})}.{signature}",
            "without signature": self._token(claims, {"alg": "none"}, lambda _: b""),
            "HS256 with the certificate as secret": self._token(
                claims, {"alg": "HS256"}, lambda content: hmac.digest(certificate, content, "sha256")
            ),
        }

    def _claims(self, subject: str, email: str, audience: str, nonce: str | None) -> dict[str, Any]:
        now = int(time.time())
        name = email.partition("@")[0]
        return {
            "iss": ISSUER,
            "aud": audience,
            "azp": audience,
            "sub": subject,
            "email": email,
            "email_verified": True,
            "name": name,
            "nonce": nonce,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }

    def _token(
        self,
        claims: Mapping[str, Any],
        header: Mapping[str, Any] | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        key = self._keys[0]
        head = {"alg": "RS256", "kid": key.key_id, "typ": "JWT", **(header or {})}
        content = f"{_encode(head)}.{_encode({k: v for k, v in claims.items() if v is not None})}"
        return f"{content}.{_base64((sign or key.sign)(content.encode()))}"

    async def _certificates(self, exchange: Exchange) -> None:
        body = json.dumps({key.key_id: key.certificate for key in self._keys})
        headers = {**JSON, "Cache-Control": f"public, max-age={self.max_age}, must-revalidate, no-transform"}
        await exchange.answer(200, body, headers)

    async def _sign_in(self, exchange: Exchange) -> None:
        """For people with curl: the body, JSON, holds the options of `sign_in`."""
        options = exchange.call.body or {}
        if not isinstance(options, dict):
            return await exchange.answer_json({"error": "send a JSON object"}, 400)
        return await exchange.answer_json({"id_token": self.sign_in(**options)})


def _encode(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def run_google(*, port: int = 0, **options: Any) -> AbstractContextManager[GoogleStandin]:
    """A running server for a `with` block; `options` go to GoogleStandin."""
    return run(GoogleStandin(**options), port)
