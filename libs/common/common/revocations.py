"""Access tokens that are void before they expire: a list that every process holds and reads anew from auth.

Looking a token up costs no call. How old the list may be differs: players go on with the last one that could be read,
staff are turned away when nobody knows whether they still may.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
from prometheus_client import Counter, Gauge
from pydantic import BaseModel, SecretStr

from common.errors import Text, UnauthorizedError, UnavailableError
from common.http import ServiceAuth, call

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
POLL_TIMEOUT_SECONDS = 2.0
FRESH_SECONDS = 5.0
# A reading that failed is not tried again sooner for those who wait, or they would become a flood at auth.
ASK_AGAIN_SECONDS = 0.2
# Longer than any access token lives, whatever lifetime it was signed with, the verifiers' leeway included.
RELEVANT_SECONDS = 65 * 60.0

polls = Counter("revocation_polls_total", "Readings of the revoked tokens", ["outcome"])
list_age = Gauge("revocation_list_age_seconds", "Time since the revoked tokens were last read")


class Revoked(BaseModel):
    """Access tokens of session `sid` are void if their epoch is below `epoch`."""

    sid: str
    epoch: int


class RevocationPage(BaseModel):
    """What was revoked since some moment; `next` asks for what comes later, of which there is `more` already or not.

    Some may come twice.
    """

    revocations: list[Revoked]
    next: str
    more: bool = False


# Reads since a `next`, or all that matters; raises AppError.
RevocationSource = Callable[[str | None], Awaitable[RevocationPage]]


class RevokedError(UnauthorizedError):
    code = "token_revoked"
    title = Text(
        "This token is not valid any more, please refresh it or sign in again",
        "더 이상 유효하지 않은 토큰입니다. 갱신하거나 다시 로그인해 주세요",
    )


class _Expiry(NamedTuple):
    at: float
    revoked: Revoked


class Revocations:
    """The list; `on_revoked`, where somebody sets it, is told each new entry once."""

    on_revoked: Callable[[Revoked], None] | None = None

    def __init__(self, read: RevocationSource) -> None:
        self._read = read
        self._epochs: dict[str, int] = {}
        self._expiries: deque[_Expiry] = deque()
        self._cursor: str | None = None
        self._read_at = self._asked_at = float("-inf")
        self._polling: asyncio.Task[None] | None = None
        self._failing = False

    def voids(self, sid: str, epoch: int) -> bool:
        """Whether a token of this session and epoch is revoked."""
        return epoch < self._epochs.get(sid, 0)

    def age(self) -> float:
        """Seconds since the list was read; infinite if it never was."""
        return time.monotonic() - self._read_at

    async def check_known(self) -> None:
        """Raises UnavailableError if the list could never be read."""
        if self._cursor is None:
            await self._ask()
            if self._cursor is None:
                raise _unknown()

    async def check_fresh(self) -> None:
        """Raises UnavailableError if the list is out of date and cannot be read now."""
        if self.age() > FRESH_SECONDS:
            await self._ask()
            if self.age() > FRESH_SECONDS:
                raise _unknown()

    async def _ask(self) -> None:
        if not self._failing or time.monotonic() - self._asked_at >= ASK_AGAIN_SECONDS or self._polling:
            await self.poll()

    async def poll(self) -> None:
        """Read what is new; who comes meanwhile waits for the same reading."""
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        await asyncio.shield(self._polling)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Read once before, then every `POLL_SECONDS` until the end."""
        list_age.set_function(self.age)
        await self.poll()
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            tasks = [task for task in (following, self._polling) if task]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.poll()

    async def _poll(self) -> None:
        started = self._asked_at = time.monotonic()
        try:
            following = await self._read_pages(started)
        except Exception as error:  # noqa: BLE001 - whatever it was, the list has to be read again
            polls.labels("failed").inc()
            if not self._failing:  # once per outage, not once per second
                logger.warning("cannot read the revoked tokens", extra={"reason": type(error).__name__})
            self._failing = True
            return
        finally:
            self._polling = None
        polls.labels("ok").inc()
        if self._failing:
            logger.info("the revoked tokens can be read again")
        self._failing, self._cursor, self._read_at = False, following, started

    async def _read_pages(self, now: float) -> str:
        """All that is new; the cursor for what comes later, which only the last page gives."""
        cursor = self._cursor
        while True:
            async with asyncio.timeout(POLL_TIMEOUT_SECONDS):
                page = await self._read(cursor)
            self._apply(page.revocations, now)
            cursor = page.next
            if not page.more:
                return cursor

    def _apply(self, revocations: list[Revoked], now: float) -> None:
        for revoked in revocations:
            if self._epochs.get(revoked.sid, 0) >= revoked.epoch:
                continue
            self._epochs[revoked.sid] = revoked.epoch
            self._expiries.append(_Expiry(now + RELEVANT_SECONDS, revoked))
            if self.on_revoked:
                self.on_revoked(revoked)
        while self._expiries and self._expiries[0].at <= now:
            _, old = self._expiries.popleft()
            if self._epochs[old.sid] == old.epoch:
                del self._epochs[old.sid]


def _unknown() -> UnavailableError:
    return UnavailableError(
        Text(
            "It cannot be checked right now whether your sign-in is still valid",
            "지금은 로그인이 아직 유효한지 확인할 수 없습니다",
        )
    )


def http_revocation_source(client: httpx.AsyncClient, *, client_id: str, client_secret: SecretStr) -> RevocationSource:
    """The list from auth, for a client of ours that may have its scope `auth:revocations`."""
    signed = ServiceAuth(
        client, client_id=client_id, client_secret=client_secret, audience="auth", scope="auth:revocations"
    )

    async def read(since: str | None) -> RevocationPage:
        params = {"since": since} if since else {}
        return await call(client, "GET", "/internal/revocations", RevocationPage, params=params, auth=signed)

    return read
