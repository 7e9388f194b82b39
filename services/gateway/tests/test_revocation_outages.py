"""Revoked tokens while something that has to do with them is gone: Redis, which has nothing to do with it, and auth."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from common import revocations
from common.testing import Tokens, listening

from .conftest import OpenGateway, ScriptedService
from .redis_server import redis_server

WITHIN_SECONDS = 5.0
GAMES, STATS = "/api/coach/games", "/admin/stats"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def refused(gateway: httpx.AsyncClient, token: str) -> None:
    """Wait until `token` is refused."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            if (await gateway.get(GAMES, headers=bearer(token))).status_code == 401:
                return
            await asyncio.sleep(0.01)


async def test_with_the_state_redis_stopped_revocation_acts_and_staff_come_in(
    open_gateway: OpenGateway, service: ScriptedService, tokens: Tokens
) -> None:
    player, other, admin = tokens.player(), tokens.player(), tokens.player(role="admin")
    with redis_server() as own:
        gateway = await open_gateway(state_redis_url=SecretStr(own.url))
        assert (await gateway.get(GAMES, headers=bearer(player))).status_code == 200
    service.revoked.add(player)
    await refused(gateway, player)
    assert (await gateway.get(GAMES, headers=bearer(other))).status_code == 200
    assert (await gateway.get(STATS, headers=bearer(admin))).status_code == 200
    service.revoked.add(admin)
    await refused(gateway, admin)
    assert (await gateway.get(STATS, headers=bearer(admin))).status_code == 401


async def test_with_auth_away_players_go_on_as_last_known_and_staff_are_turned_away(
    open_gateway: OpenGateway, tokens: Tokens, clean_redis: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "POLL_SECONDS", 0.02)
    auth = ScriptedService(tokens)
    banned, player, admin = tokens.player(), tokens.player(), tokens.player(role="admin")
    async with listening(auth) as auth_url:
        gateway = await open_gateway(auth_url=auth_url)
        auth.revoked.add(banned)
        await refused(gateway, banned)
        assert (await gateway.get(STATS, headers=bearer(admin))).status_code == 200
    monkeypatch.setattr(revocations, "FRESH_SECONDS", 0.1)
    await asyncio.sleep(0.2)
    assert (await gateway.get(GAMES, headers=bearer(player))).status_code == 200
    assert (await gateway.get(GAMES, headers=bearer(banned))).status_code == 401
    turned_away = await gateway.get(STATS, headers={**bearer(admin), "Accept-Language": "ko"})
    assert (turned_away.status_code, turned_away.json()["code"]) == (503, "unavailable")
    assert "확인할 수 없습니다" in turned_away.json()["detail"]
    assert int(turned_away.headers["retry-after"]) > 0


async def test_a_gateway_that_never_reached_auth_says_so_and_opens_once_it_does(
    open_gateway: OpenGateway, service: ScriptedService, tokens: Tokens, clean_redis: None
) -> None:
    service.tells_revoked = False
    gateway = await open_gateway()
    closed = await gateway.get(GAMES, headers=tokens.headers())
    assert (closed.status_code, closed.json()["code"]) == (503, "unavailable")
    service.tells_revoked = True
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            if (await gateway.get(GAMES, headers=tokens.headers())).status_code == 200:
                break
            await asyncio.sleep(0.05)
