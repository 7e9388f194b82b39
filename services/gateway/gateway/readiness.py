"""What `/readyz` of the gateway checks, and what of it decides.

Only one thing makes a gateway useless: never having had auth's keys, or its list of what is revoked (a check of every
service), since then nobody can come in. All else is shown and does not decide. Without the state Redis limits are
counted per process; without one service the others still answer; and a load balancer that took every gateway out
because of one of them would turn a part of an outage into the whole.
"""

import asyncio
import time
from collections.abc import Mapping

import httpx
from redis.asyncio import Redis

from common.app import Check
from common.public_keys import PublicKeys

# /readyz is public: asking often must not become load on the services.
REMEMBERED_SECONDS = 1.0


class Drain:
    """Whether this process was told to stop: it still answers, but new work should go elsewhere."""

    begun = False


def readiness_checks(
    keys: PublicKeys, state_redis: Redis, clients: Mapping[str, httpx.AsyncClient]
) -> dict[str, Check]:
    """The checks by name: `auth_keys` decides, the others inform."""
    checks: dict[str, Check] = {"auth_keys": keys.check, "redis_state": _redis_check(state_redis)}
    checks |= {name: _upstream_check(client) for name, client in clients.items()}
    return {name: _remembered(check) for name, check in checks.items()}


def _redis_check(redis: Redis) -> Check:
    async def check() -> None:
        await redis.ping()

    return check


def _upstream_check(client: httpx.AsyncClient) -> Check:
    async def check() -> None:
        (await client.get("/readyz")).raise_for_status()

    return check


def _remembered(check: Check) -> Check:
    """`check`, run at most once in REMEMBERED_SECONDS."""
    lock = asyncio.Lock()
    until = float("-inf")
    outcome: str | Exception | None = None

    async def latest() -> str | None:
        nonlocal until, outcome
        async with lock:
            if time.monotonic() >= until:
                try:
                    outcome = await check()
                except Exception as error:  # noqa: BLE001 - remembered, and raised below like any other
                    outcome = error
                until = time.monotonic() + REMEMBERED_SECONDS
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return latest
