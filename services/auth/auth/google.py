"""Google sign-in: ID tokens verified by google-auth against Google's certificates, which are fetched by us."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from google.auth import exceptions, jwt, transport
from google.oauth2 import id_token as google_id_token
from httpx_aiohttp import HttpxAiohttpClient
from pydantic import BaseModel, Field

from auth.google_certificates import Certificates
from auth.models import Locale
from auth.shapes import EMAIL, LONGEST_EMAIL, LONGEST_NAME, GoogleLogin
from common.errors import Text, UnauthorizedError

# Google writes its issuer in two ways; accounts are stored under the second.
ISSUERS = ("accounts.google.com", "https://accounts.google.com")
ISSUER = ISSUERS[1]
CLOCK_SKEW_SECONDS = 10


class InvalidGoogleTokenError(UnauthorizedError):
    code = "invalid_google_token"
    title = Text("Google sign-in failed", "Google 로그인에 실패했습니다")


class GoogleAccount(BaseModel):
    """What we read of a verified ID token."""

    subject: str = Field(alias="sub", min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")
    email: str | None = None
    email_verified: bool = False
    name: str | None = None
    locale_tag: str | None = Field(default=None, alias="locale")

    @property
    def verified_email(self) -> str | None:
        """The address, unless Google has not checked that it is theirs."""
        email = (self.email or "").lower()
        return email if self.email_verified and len(email) <= LONGEST_EMAIL and re.fullmatch(EMAIL, email) else None

    @property
    def display_name(self) -> str | None:
        """The name, as far as an account may have such a one."""
        return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "", self.name or "").strip()[:LONGEST_NAME] or None

    @property
    def locale(self) -> Locale | None:
        """Korean or English, if Google says so."""
        known: dict[str, Locale] = {"ko": "ko", "en": "en"}
        return known.get((self.locale_tag or "")[:2].lower())


class Google:
    """Verifies ID tokens meant for our client ids."""

    def __init__(self, certificates: Certificates, client_ids: list[str]) -> None:
        self._certificates = certificates
        self._client_ids = client_ids

    async def verify(self, login: GoogleLogin) -> GoogleAccount:
        """The account that `login` proves; raises InvalidGoogleTokenError or GoogleUnavailableError."""
        try:
            # Read before it is verified: what was not meant for us is worth no question to Google.
            unverified = jwt.decode(login.id_token, verify=False)  # type: ignore[no-untyped-call]
            if unverified.get("aud") not in self._client_ids:
                raise InvalidGoogleTokenError
            key_id = jwt.decode_header(login.id_token).get("kid")  # type: ignore[no-untyped-call]
            certificates = await self._certificates.for_key(str(key_id))
            # Without a wait for the network verification takes about a millisecond, so it needs no thread.
            claims = google_id_token.verify_token(
                login.id_token,
                _Fetched(certificates),
                audience=self._client_ids,
                clock_skew_in_seconds=CLOCK_SKEW_SECONDS,
            )
            account = GoogleAccount.model_validate(claims)
        except (exceptions.GoogleAuthError, ValueError, TypeError, AttributeError, RecursionError) as error:
            # The last three are how one meets a claim of the wrong type, no claims and endlessly nested JSON.
            raise InvalidGoogleTokenError from error
        # One comparison for both rules: a nonce sent must be in the token, and one in the token must be sent.
        if claims.get("iss") not in ISSUERS or claims.get("nonce") != login.nonce:
            raise InvalidGoogleTokenError
        return account


class _Fetched(transport.Request, transport.Response):
    """google-auth's transport, answering with certificates that are already here."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __call__(self, *_: Any, **__: Any) -> transport.Response:
        return self

    @property
    def status(self) -> int:
        return 200

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    @property
    def data(self) -> bytes:
        return self._body


@asynccontextmanager
async def google_client(*, certs_url: str, client_ids: list[str], timeout_seconds: float) -> AsyncIterator[Google]:
    """Google sign-in over a client of its own: unlike `common.http`'s it passes on no trace or request id."""
    async with HttpxAiohttpClient(timeout=timeout_seconds) as client:
        certificates = Certificates(client, url=certs_url, timeout_seconds=timeout_seconds)
        try:
            yield Google(certificates, client_ids)
        finally:
            await certificates.aclose()
