"""Auth's public keys: fetched when a token names one that is not known, and not more often than that is worth."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from jose import JOSEError, jwk
from jose.backends.base import Key
from prometheus_client import Counter
from pydantic import BaseModel

from common.errors import AppError, Text, UnavailableError
from common.http import call

logger = logging.getLogger(__name__)

ALGORITHM = "RS256"
# A flood of tokens with made-up key ids must not become a flood of key fetches.
KEY_FETCH_INTERVAL_SECONDS = 30.0

JWK = dict[str, Any]
# Raises AppError when there are none to be had.
KeySource = Callable[[], Awaitable[list[JWK]]]

key_fetches = Counter("identity_key_fetches_total", "Fetches of auth's public keys", ["outcome"])


class _KeySet(BaseModel):
    keys: list[JWK]


class PublicKeys:
    """The keys that `fetch` gives, by their id."""

    def __init__(self, fetch: KeySource) -> None:
        self._fetch = fetch
        self._keys: dict[str, Key] = {}
        self._fetched_at = float("-inf")
        self._refresh: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> Key | None:
        """The key, or None when auth publishes no such; raises UnavailableError when none could ever be fetched."""
        if key_id not in self._keys:
            if not self._refresh and time.monotonic() - self._fetched_at >= KEY_FETCH_INTERVAL_SECONDS:
                self._refresh = asyncio.create_task(self._refresh_keys())
            # Whoever comes during a fetch waits for it, also when the caller that began it has gone.
            if self._refresh:
                await asyncio.shield(self._refresh)
        if not self._keys:
            raise UnavailableError(Text("Sign-in keys are not available yet", "로그인 키를 아직 가져오지 못했습니다"))
        return self._keys.get(key_id)

    async def _refresh_keys(self) -> None:
        previous, self._fetched_at = self._fetched_at, time.monotonic()
        try:
            keys = {item["kid"]: jwk.construct(item, ALGORITHM) for item in await self._fetch()}
        except (AppError, JOSEError, LookupError, TypeError, ValueError) as error:  # what a broken key may raise
            key_fetches.labels("failed").inc()
            logger.warning("could not fetch the sign-in keys", extra={"reason": type(error).__name__})
            # Without any key nobody can come in, so try again on the next request, not in half a minute.
            self._fetched_at = self._fetched_at if self._keys else previous
            return
        finally:
            self._refresh = None
        key_fetches.labels("ok").inc()
        self._keys = keys


def http_key_source(client: httpx.AsyncClient) -> KeySource:
    """Keys from auth's published set."""

    async def fetch() -> list[JWK]:
        return (await call(client, "GET", "/.well-known/jwks.json", _KeySet)).keys

    return fetch
