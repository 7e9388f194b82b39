"""Google sign-in: ID tokens verified by google-auth against Google's certificates, which are fetched here."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from google.auth import exceptions, jwt, transport
from google.oauth2 import id_token as google_id_token
from httpx_aiohttp import HttpxAiohttpClient
from prometheus_client import Counter
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from auth.models import GoogleLogin, Locale
from common.errors import Text, UnauthorizedError, UnavailableError

logger = logging.getLogger(__name__)

# Google writes its issuer in two ways; accounts are stored under the second.
ISSUERS = ("accounts.google.com", "https://accounts.google.com")
ISSUER = ISSUERS[1]
CLOCK_SKEW_SECONDS = 10
# Bounds on what the server says: neither a fetch per sign-in nor a withdrawn certificate trusted for weeks.
SHORTEST_MAX_AGE, LONGEST_MAX_AGE = 60, 86_400
# After a failed fetch sign-ins are refused at once for a while instead of each waiting for its own timeout.
PAUSE_SECONDS = 5

# By key id; anything else that is JSON, an error in words for one, must not be kept in the place of certificates.
_CERTIFICATES = TypeAdapter(
    Annotated[dict[str, Annotated[str, StringConstraints(pattern="^-----BEGIN CERTIFICATE-----")]], Field(min_length=1)]
)

certificate_fetches = Counter("google_certificate_fetches_total", "Fetches of Google's certificates", ["outcome"])


class InvalidGoogleTokenError(UnauthorizedError):
    code = "invalid_google_token"
    title = Text("Google sign-in failed", "Google 로그인에 실패했습니다")


class GoogleUnavailableError(UnavailableError):
    code = "google_unavailable"
    title = Text("Google sign-in is not available right now", "지금은 Google 로그인을 사용할 수 없습니다")


class GoogleAccount(BaseModel):
    """What we read of a verified ID token."""

    subject: str = Field(alias="sub", min_length=1, max_length=255)
    email: str | None = None
    email_verified: bool = False
    name: str | None = None
    locale_tag: str | None = Field(default=None, alias="locale")

    @property
    def verified_email(self) -> str | None:
        """The address, unless Google has not checked that it is theirs."""
        return self.email.lower() if self.email and self.email_verified else None

    @property
    def locale(self) -> Locale | None:
        """Korean or English, if Google says so."""
        known: dict[str, Locale] = {"ko": "ko", "en": "en"}
        return known.get((self.locale_tag or "")[:2].lower())


class Google:
    """Verifies ID tokens meant for our client ids."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        certs_url: str,
        client_ids: list[str],
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._certs_url = certs_url
        self._client_ids = client_ids
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._certificates = b""
        self._expires_at = float("-inf")
        self._paused_until = float("-inf")
        self._fetching = asyncio.Lock()

    async def verify(self, login: GoogleLogin) -> GoogleAccount:
        """The account that `login` proves; raises InvalidGoogleTokenError or GoogleUnavailableError."""
        try:
            # Read before it is verified: what was not meant for us is worth no question to Google.
            unverified = jwt.decode(login.id_token, verify=False)  # type: ignore[no-untyped-call]
            if unverified.get("aud") not in self._client_ids:
                raise InvalidGoogleTokenError
            certificates = await self._current_certificates()
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

    async def _current_certificates(self) -> bytes:
        async with self._fetching:
            now = self._clock()
            if now >= self._expires_at:
                if now < self._paused_until:
                    raise GoogleUnavailableError(retry_after_seconds=PAUSE_SECONDS)
                await self._fetch_certificates()
            return self._certificates

    async def _fetch_certificates(self) -> None:
        try:
            # httpx's own timeouts start anew with every byte; this one is for the whole reply.
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.get(self._certs_url)
            response.raise_for_status()
            _CERTIFICATES.validate_json(response.content)
        except (httpx.HTTPError, TimeoutError, ValidationError) as error:
            certificate_fetches.labels("failed").inc()
            logger.warning("could not fetch Google's certificates", extra={"reason": type(error).__name__})
            self._paused_until = self._clock() + PAUSE_SECONDS
            raise GoogleUnavailableError(retry_after_seconds=PAUSE_SECONDS) from error
        certificate_fetches.labels("ok").inc()
        self._certificates = response.content
        self._expires_at = self._clock() + _max_age(response.headers)


def _max_age(headers: Mapping[str, str]) -> int:
    found = re.search(r"\bmax-age=(\d{1,9})", headers.get("cache-control", ""))
    return min(max(int(found[1]) if found else 0, SHORTEST_MAX_AGE), LONGEST_MAX_AGE)


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
        yield Google(client, certs_url=certs_url, client_ids=client_ids, timeout_seconds=timeout_seconds)
