"""Google's certificates: kept for as long as it allows, and renewed before, so that no sign-in waits for them."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated

import aiohttp
import httpx
from cryptography import x509
from prometheus_client import Counter
from pydantic import AfterValidator, Field, TypeAdapter

from common.errors import Text, UnavailableError

logger = logging.getLogger(__name__)

# Bounds on what Google says: neither a fetch per sign-in nor a withdrawn certificate trusted for weeks. The first one
# is also how often a token with a key that we do not know makes us ask.
SHORTEST_MAX_AGE, LONGEST_MAX_AGE = 60, 86_400
# Of the time for which they may be kept; what remains is how long Google may be away unnoticed.
RENEW_AFTER = 0.75
# After a failed fetch sign-ins are refused at once for a while instead of each waiting for its own timeout.
PAUSE_SECONDS = 5
# Theirs are 3 kB.
LARGEST_BODY = 256 * 1024


def _certificate(text: str) -> str:
    """The same text; raises ValueError if it is no certificate."""
    x509.load_pem_x509_certificate(text.encode())
    return text


# By key id; anything else that is JSON, an error in words for one, must not be kept in the place of certificates.
_CERTIFICATES = TypeAdapter(Annotated[dict[str, Annotated[str, AfterValidator(_certificate)]], Field(min_length=1)])

certificate_fetches = Counter("google_certificate_fetches_total", "Fetches of Google's certificates", ["outcome"])


class GoogleUnavailableError(UnavailableError):
    code = "google_unavailable"
    title = Text("Google sign-in is not available right now", "지금은 Google 로그인을 사용할 수 없습니다")


class Certificates:
    """The certificates, as Google's reply of JSON."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        url: str,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._body = b""
        self._key_ids: frozenset[str] = frozenset()
        self._fetched_at = self._renew_at = self._expires_at = float("-inf")
        self._failed = False
        self._paused_until = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def for_key(self, key_id: str) -> bytes:
        """What a token that names `key_id` is verified with; raises GoogleUnavailableError."""
        now = self._clock()
        is_new = key_id not in self._key_ids and now >= self._fetched_at + SHORTEST_MAX_AGE
        if now >= self._renew_at or is_new:
            self._begin_fetch()
        if now >= self._expires_at or is_new:
            # Whoever comes during a fetch waits for it, also when the caller that began it has gone.
            if self._fetching:
                await asyncio.shield(self._fetching)
            if self._failed:
                raise GoogleUnavailableError(retry_after_seconds=PAUSE_SECONDS)
        return self._body

    async def aclose(self) -> None:
        """Give up a fetch that nobody waits for any more."""
        if self._fetching:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching

    def _begin_fetch(self) -> None:
        if not self._fetching and self._clock() >= self._paused_until:
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            # httpx's own timeouts start anew with every byte; this one is for the whole reply.
            async with asyncio.timeout(self._timeout_seconds):
                body, headers = await self._read()
            key_ids = frozenset(_CERTIFICATES.validate_json(body))
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            certificate_fetches.labels("failed").inc()
            logger.warning("could not fetch Google's certificates", extra={"reason": type(error).__name__})
            self._failed, self._paused_until = True, self._clock() + PAUSE_SECONDS
            return
        finally:
            self._fetching = None
        certificate_fetches.labels("ok").inc()
        now, max_age = self._clock(), _max_age(headers)
        self._body, self._key_ids, self._failed = body, key_ids, False
        self._fetched_at, self._renew_at, self._expires_at = now, now + RENEW_AFTER * max_age, now + max_age

    async def _read(self) -> tuple[bytes, Mapping[str, str]]:
        """The reply, no further than it can be what we asked for."""
        async with self._client.stream("GET", self._url) as response:
            response.raise_for_status()
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > LARGEST_BODY:
                    raise ValueError("too large")
        return body, response.headers


def _max_age(headers: Mapping[str, str]) -> int:
    found = re.search(r"\bmax-age=(\d{1,9})", headers.get("cache-control", ""))
    return min(max(int(found[1]) if found else 0, SHORTEST_MAX_AGE), LONGEST_MAX_AGE)
