"""The profile, and the counts for ops."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlmodel import col, delete

from auth.models import User
from auth.settings import Settings
from common.db import Sessions

Login = Callable[..., Awaitable[dict[str, Any]]]


def bearer(signed_in: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {signed_in['access_token']}"}


async def service_token(client: httpx.AsyncClient, settings: Settings, client_id: str, audience: str) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": settings.service_secrets[client_id].get_secret_value(),
        "audience": audience,
    }
    token: str = (await client.post("/internal/token", data=form)).json()["access_token"]
    return token


async def test_me_shows_the_signed_in_player(client: httpx.AsyncClient, log_in: Login) -> None:
    signed_in = await log_in()
    response = await client.get("/auth/me", headers=bearer(signed_in))
    assert (response.status_code, response.json()) == (200, signed_in["user"])


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer a.b.c"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_me_without_a_valid_token_is_401(
    client: httpx.AsyncClient, method: str, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = await client.request(method, "/auth/me", headers=headers, json={} if method == "PATCH" else None)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_me_of_an_erased_account_is_401(client: httpx.AsyncClient, log_in: Login, sessions: Sessions) -> None:
    signed_in = await log_in()
    async with sessions.begin() as session:
        await session.exec(delete(User).where(col(User.id) == UUID(signed_in["user"]["id"])))
    assert (await client.get("/auth/me", headers=bearer(signed_in))).status_code == 401


async def test_a_player_changes_name_and_language(client: httpx.AsyncClient, log_in: Login) -> None:
    signed_in = await log_in()
    changed = await client.patch("/auth/me", json={"name": " 징크스 ", "locale": "ko"}, headers=bearer(signed_in))
    assert changed.json() == {**signed_in["user"], "name": "징크스", "locale": "ko"}
    again = await log_in()
    assert again["user"] == changed.json()


async def test_what_a_change_leaves_out_stays_and_null_clears(client: httpx.AsyncClient, log_in: Login) -> None:
    headers = bearer(await log_in())
    await client.patch("/auth/me", json={"name": "Jinx", "locale": "en"}, headers=headers)
    changed = (await client.patch("/auth/me", json={"name": None}, headers=headers)).json()
    assert (changed["name"], changed["locale"]) == (None, "en")


@pytest.mark.parametrize(
    "body",
    [{"name": ""}, {"name": "  "}, {"name": "a" * 81}, {"locale": "fr"}, {"role": "admin"}, {"plan": "premium"}, []],
)
async def test_a_forbidden_change_is_422(client: httpx.AsyncClient, log_in: Login, body: object) -> None:
    response = await client.patch("/auth/me", json=body, headers=bearer(await log_in()))
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=100))
async def test_any_name_is_stored_as_given_or_refused(client: httpx.AsyncClient, log_in: Login, name: str) -> None:
    headers = bearer(await log_in())
    response = await client.patch("/auth/me", json={"name": name}, headers=headers)
    assert response.status_code in (200, 422)
    if response.status_code == 200:
        assert response.json()["name"] == name.strip()
        assert (await client.get("/auth/me", headers=headers)).json()["name"] == name.strip()


async def test_stats_count_players_and_not_staff(client: httpx.AsyncClient, log_in: Login, settings: Settings) -> None:
    headers = {"Authorization": f"Bearer {await service_token(client, settings, 'admin', 'auth')}"}
    before = (await client.get("/internal/stats", headers=headers)).json()
    await log_in("free@example.com")
    await log_in("premium@example.com", plan="premium")
    await log_in("admin@example.com", role="admin", plan="premium")
    after = (await client.get("/internal/stats", headers=headers)).json()
    assert after["players"] - before["players"] == 2
    assert after["premium"] - before["premium"] == 1
    assert after["premium_share"] == pytest.approx(after["premium"] / after["players"], abs=1e-4)


async def test_stats_are_for_services_with_the_scope(
    client: httpx.AsyncClient, log_in: Login, settings: Settings
) -> None:
    admin = await log_in(role="admin")
    meant_for_rag = await service_token(client, settings, "admin", "rag")
    assert (await client.get("/internal/stats")).status_code == 401
    assert (await client.get("/internal/stats", headers=bearer(admin))).status_code == 403
    refused = await client.get("/internal/stats", headers={"Authorization": f"Bearer {meant_for_rag}"})
    assert refused.status_code == 401
