"""Auth's public keys: fetched when they are needed, and not more often than that is worth."""

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
# A flood of tokens with made-up key ids must not become a flood of fetches. A key is published for longer than this
# before it signs, and one that auth has dropped is forgotten after this.
KEY_FETCH_INTERVAL_SECONDS = 30.0
# After a failed fetch, since whoever has a new key waits outside; about as long as one may take.
RETRY_SECONDS = 2.0

JWK = dict[str, Any]
# Raises AppError when there are none to be had.
KeySource = Callable[[], Awaitable[list[JWK]]]

key_fetches = Counter("identity_key_fetches_total", "Fetches of auth's public keys", ["outcome"])


class _KeySet(BaseModel):
    keys: list[JWK]


class PublicKeys:
    """The keys that `fetch` gives, by their id; `on_dropped` is told when one of them is gone."""

    def __init__(
        self, fetch: KeySource, *, on_dropped: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._on_dropped = on_dropped
        self._keys: dict[str, Key] = {}
        self._fetched_at = float("-inf")
        self._failed = False
        self._refresh: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> Key | None:
        """The key, or None when auth publishes no such.

        Raises UnavailableError when auth cannot be asked: a key it does not know may be made up or new.
        """
        self.refresh_if_due()
        if key_id not in self._keys:
            await self._refreshed()
            if self._failed:
                raise _unavailable()
        return self._keys.get(key_id)

    async def check(self) -> None:
        """Raises UnavailableError as long as no key could ever be fetched."""
        if not self._keys:
            self.refresh_if_due()
            await self._refreshed()
        if not self._keys:
            raise _unavailable()

    def refresh_if_due(self) -> None:
        """Begin a fetch when it is time for one; nobody has to wait for it."""
        interval = RETRY_SECONDS if self._failed else KEY_FETCH_INTERVAL_SECONDS
        if not self._refresh and self._clock() - self._fetched_at >= interval:
            self._refresh = asyncio.create_task(self._refresh_keys())

    async def _refreshed(self) -> None:
        """Whoever comes during a fetch waits for it, also when the caller that began it has gone."""
        if self._refresh:
            await asyncio.shield(self._refresh)

    async def _refresh_keys(self) -> None:
        self._fetched_at, self._failed = self._clock(), True
        try:
            keys = {item["kid"]: jwk.construct(item, ALGORITHM) for item in await self._fetch()}
            if not keys:
                raise LookupError("an empty set")
        except (AppError, JOSEError, LookupError, TypeError, ValueError) as error:  # what a broken key may raise
            key_fetches.labels("failed").inc()
            logger.warning("could not fetch the sign-in keys", extra={"reason": type(error).__name__})
            return
        finally:
            self._refresh = None
        key_fetches.labels("ok").inc()
        if self._keys.keys() - keys.keys():
            self._on_dropped()
        self._keys, self._failed = keys, False


def _unavailable() -> UnavailableError:
    return UnavailableError(Text("Sign-in keys are not available right now", "지금은 로그인 키를 가져올 수 없습니다"))


def http_key_source(client: httpx.AsyncClient) -> KeySource:
    """Keys from auth's published set."""

    async def fetch() -> list[JWK]:
        return (await call(client, "GET", "/.well-known/jwks.json", _KeySet)).keys

    return fetch
