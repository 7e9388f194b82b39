"""Refreshing through two processes of auth at once, in time, too late, and against a thief."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlmodel import col, select, update

from auth.models import Audit, RefreshToken
from auth.refresh_tokens import REUSE_WINDOW
from auth.settings import Settings
from common.db import Sessions, uuid7

from .processes import auth_processes

TABS = 5
# In which a revocation must be known to every process.
KNOWN_SECONDS = 5.0


@pytest.fixture(scope="module")
async def processes(settings: Settings, committed: Sessions) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two of auth, on one database."""
    async with auth_processes(settings, 2) as clients:
        yield clients


@pytest.fixture
async def signed_in(processes: list[httpx.AsyncClient]) -> dict[str, Any]:
    """Somebody new."""
    reply = await processes[0].post("/auth/dev/login", json={"email": f"{uuid7()}@example.com"})
    tokens: dict[str, Any] = reply.json()
    return tokens


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/auth/refresh", json={"refresh_token": token})


async def me(client: httpx.AsyncClient, tokens: dict[str, Any]) -> int:
    return (await client.get("/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})).status_code


async def until_refused(client: httpx.AsyncClient, tokens: dict[str, Any]) -> None:
    while True:
        if await me(client, tokens) == 401:
            return
        await asyncio.sleep(0.1)


async def used_ago(sessions: Sessions, signed_in: dict[str, Any], ago: timedelta) -> None:
    """Let the tokens of somebody that have been used have been used so much earlier."""
    async with sessions.begin() as session:
        mine = update(RefreshToken).where(col(RefreshToken.user_id) == UUID(signed_in["user"]["id"]))
        await session.exec(mine.values(used_at=col(RefreshToken.used_at) - ago))


async def audited(sessions: Sessions, signed_in: dict[str, Any]) -> list[str]:
    async with sessions() as session:
        query = select(Audit.action).where(Audit.subject == signed_in["user"]["id"]).order_by(col(Audit.id))
        return list((await session.exec(query)).all())


async def test_five_tabs_refreshing_at_once_through_two_processes_all_stay_in(
    processes: list[httpx.AsyncClient], signed_in: dict[str, Any], committed: Sessions
) -> None:
    tokens = [signed_in["refresh_token"]] * TABS
    for _ in range(2):  # each tab goes on with the token that it got
        replies = await asyncio.gather(*(refresh(processes[tab % 2], tokens[tab]) for tab in range(TABS)))
        assert [reply.status_code for reply in replies] == [200] * TABS
        tokens = [reply.json()["refresh_token"] for reply in replies]
        assert len(set(tokens)) == TABS
        for process in processes:
            assert [await me(process, reply.json()) for reply in replies] == [200] * TABS
    assert await audited(committed, signed_in) == []


async def test_a_replay_ends_the_family_and_its_access_tokens_at_every_process(
    processes: list[httpx.AsyncClient], signed_in: dict[str, Any], committed: Sessions
) -> None:
    newest = (await refresh(processes[0], signed_in["refresh_token"])).json()
    await used_ago(committed, signed_in, REUSE_WINDOW)
    assert (await refresh(processes[1], signed_in["refresh_token"])).status_code == 401
    assert await audited(committed, signed_in) == ["session.replayed"]
    async with asyncio.timeout(KNOWN_SECONDS):
        for process in processes:
            for tokens in (signed_in, newest):
                await until_refused(process, tokens)
    for process in processes:
        assert (await refresh(process, newest["refresh_token"])).status_code == 401


async def test_the_window_is_open_to_its_edge_and_no_use_makes_it_longer(
    processes: list[httpx.AsyncClient], signed_in: dict[str, Any], committed: Sessions
) -> None:
    await refresh(processes[0], signed_in["refresh_token"])
    almost = REUSE_WINDOW - timedelta(seconds=4)
    await used_ago(committed, signed_in, almost)
    sibling = await refresh(processes[1], signed_in["refresh_token"])
    assert sibling.status_code == 200
    await used_ago(committed, signed_in, REUSE_WINDOW - almost)
    assert (await refresh(processes[0], signed_in["refresh_token"])).status_code == 401
    assert (await refresh(processes[0], sibling.json()["refresh_token"])).status_code == 401


async def test_a_reply_that_was_lost_is_had_by_asking_again(
    processes: list[httpx.AsyncClient], signed_in: dict[str, Any]
) -> None:
    asked = asyncio.create_task(refresh(processes[0], signed_in["refresh_token"]))
    await asyncio.sleep(0)
    asked.cancel()  # the connection breaks, before or after the exchange happened
    again = await refresh(processes[1], signed_in["refresh_token"])
    assert again.status_code == 200
    assert await me(processes[0], again.json()) == 200
    assert (await refresh(processes[0], again.json()["refresh_token"])).status_code == 200


@pytest.mark.parametrize("attempt", range(5))
async def test_whoever_of_thief_and_player_comes_first_the_family_is_over(
    processes: list[httpx.AsyncClient], signed_in: dict[str, Any], committed: Sessions, attempt: int
) -> None:
    newest = (await refresh(processes[0], signed_in["refresh_token"])).json()
    await used_ago(committed, signed_in, REUSE_WINDOW)
    thief, player = await asyncio.gather(
        refresh(processes[attempt % 2], signed_in["refresh_token"]), refresh(processes[0], newest["refresh_token"])
    )
    assert thief.status_code == 401
    assert player.status_code in (200, 401)
    if player.status_code == 200:
        assert (await refresh(processes[1], player.json()["refresh_token"])).status_code == 401
    assert (await refresh(processes[0], newest["refresh_token"])).status_code == 401
    assert await audited(committed, signed_in) == ["session.replayed"]
