"""Rotates the keys that sign tokens, and waits until the new one does."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from devstack.gateway import GatewayError, read

POLL_SECONDS = 1.0
# A new key signs after a minute; auth looks every five seconds whether it is time.
PATIENCE_SECONDS = 120.0
SAY_EVERY_SECONDS = 10.0


async def rotate_keys(operator: httpx.AsyncClient, say: Callable[[str], None]) -> None:
    """Start a rotation, or join the one under way, and see it through."""
    keys = read(await operator.post("/admin/keys/rotate"))["keys"]
    old, new = _in_state(keys, "active")["kid"], _in_state(keys, "next")["kid"]
    say(f"old key: {old}")
    say(f"new key: {new}, published")
    begin = time.monotonic()
    said = float("-inf")
    while (key := _in_state(keys, "next")).get("kid") == new:
        if time.monotonic() - begin > PATIENCE_SECONDS:
            raise GatewayError(f"the new key does not sign after {PATIENCE_SECONDS:.0f} s; auth's log says why")
        if time.monotonic() - said > SAY_EVERY_SECONDS:
            said = time.monotonic()
            say(f"signs in {_seconds_until(key['signs_from']):.0f} s")
        await asyncio.sleep(POLL_SECONDS)
        reply = await operator.get("/admin/keys")
        if not reply.is_server_error:  # a system that is busy for a moment rotates all the same
            keys = read(reply)["keys"]
    say(f"the new key signs; tokens of the old one hold until they expire ({time.monotonic() - begin:.0f} s)")


def _in_state(keys: list[dict[str, Any]], state: str) -> dict[str, Any]:
    """The one key in `state`; empty if there is none."""
    return next((key for key in keys if key["state"] == state), {})


def _seconds_until(moment: str) -> float:
    return max(0.0, (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds())
