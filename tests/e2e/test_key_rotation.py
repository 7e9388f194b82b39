"""Two rotations of the signing keys in a row, under load and under attack: nobody who is signed in is turned away."""

import asyncio
import base64
import json
import os
import sys
import time
from collections import Counter
from itertools import count, cycle
from typing import Any
from uuid import uuid4

import httpx
import pytest
from httpx_aiohttp import HttpxAiohttpClient
from jose import jwt

RATE = 100
# Those who refresh hold tokens of every key, those who do not keep the first key's to the end.
REFRESHING, HOLDING = 30, 10
REFRESHES_A_SECOND = 4
FORGERIES_A_SECOND = 10
AT_ONCE = 50
ROTATIONS = 2


class Player:
    """Somebody signed in."""

    def __init__(self, tokens: dict[str, Any]) -> None:
        self.take(tokens)
        # A client that asked again with its old token, the reply being late, would look like a thief.
        self.refreshing = asyncio.Lock()

    def take(self, tokens: dict[str, Any]) -> None:
        self.access, self.refresh = tokens["access_token"], tokens["refresh_token"]

    @property
    def kid(self) -> str:
        return str(jwt.get_unverified_header(self.access)["kid"])


class Load:
    """Calls at a steady rate, as far as the machine can take it; statuses by kind of call."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._calls: set[asyncio.Task[None]] = set()
        self.statuses: dict[str, Counter[int]] = {kind: Counter() for kind in ("signed", "refresh", "forged")}
        self.milliseconds: list[float] = []
        self.kids: set[str] = set()
        self.refusals: Counter[str] = Counter()

    async def at(self, rate: float, call: Any) -> None:
        """Begin `call()` so often a second, for ever; one that would have to queue here is left out."""
        begin = time.monotonic()
        for number in count():
            await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
            if len(self._calls) >= AT_ONCE:
                continue
            task = asyncio.create_task(call())
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def settled(self) -> None:
        """Return when every call has its reply."""
        await asyncio.gather(*self._calls)

    async def signed(self, player: Player) -> None:
        """One call that the gateway and coach verify."""
        self.kids.add(player.kid)
        begin = time.monotonic()
        reply = await self._client.get("/api/coach/games", headers={"Authorization": f"Bearer {player.access}"})
        self.milliseconds.append((time.monotonic() - begin) * 1000)
        self.statuses["signed"][reply.status_code] += 1
        if reply.is_error:
            self.refusals[reply.json()["detail"]] += 1

    async def refresh(self, player: Player) -> None:
        """New tokens, whichever key signs now."""
        async with player.refreshing:
            reply = await self._client.post("/auth/refresh", json={"refresh_token": player.refresh})
            self.statuses["refresh"][reply.status_code] += 1
            if reply.status_code == 200:
                player.take(reply.json())

    async def forged(self, player: Player) -> None:
        """A key id that nobody has heard of."""
        header = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "typ": "JWT", "kid": str(uuid4())}).encode())
        token = ".".join([header.decode().rstrip("="), *player.access.split(".")[1:]])
        reply = await self._client.get("/api/coach/games", headers={"Authorization": f"Bearer {token}"})
        self.statuses["forged"][reply.status_code] += 1


async def make_rotate_keys(url: str) -> str:
    """What `make rotate-keys` runs; what it prints."""
    environment = {**os.environ, "DUGOUT_URL": url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devstack", "rotate-keys", env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@pytest.mark.faults
async def test_two_rotations_under_load_turn_nobody_away(url: str) -> None:
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with HttpxAiohttpClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client:
        players = []
        for _ in range(REFRESHING + HOLDING):
            reply = await client.post("/auth/dev/login", json={"email": f"{uuid4().hex}@example.com"})
            players.append(Player(reply.json()))
        load, everybody, refreshing = Load(client), cycle(players), cycle(players[:REFRESHING])
        first = players[-1].kid
        running = [
            asyncio.create_task(load.at(RATE, lambda: load.signed(next(everybody)))),
            asyncio.create_task(load.at(REFRESHES_A_SECOND, lambda: load.refresh(next(refreshing)))),
            asyncio.create_task(load.at(FORGERIES_A_SECOND, lambda: load.forged(players[0]))),
        ]
        begin = time.monotonic()
        for _ in range(ROTATIONS):
            print(await make_rotate_keys(url))
        await asyncio.sleep(REFRESHING / REFRESHES_A_SECOND + 2)  # everybody has a token of the last key by then
        seconds = time.monotonic() - begin
        for task in running:
            task.cancel()
        await load.settled()
    waits = sorted(load.milliseconds)
    print(f"{len(waits)} signed calls in {seconds:.0f} s, {len(waits) / seconds:.0f}/s, by {len(load.kids)} keys")
    print(f"median {waits[len(waits) // 2]:.1f} ms, p99 {waits[len(waits) * 99 // 100]:.1f} ms")
    print({kind: dict(statuses) for kind, statuses in load.statuses.items()}, dict(load.refusals))
    assert load.statuses["signed"].keys() == {200}
    assert load.statuses["refresh"].keys() == {200}
    assert load.statuses["forged"].keys() == {401}
    assert len(load.kids) == ROTATIONS + 1
    assert all(player.kid == first for player in players[REFRESHING:])
