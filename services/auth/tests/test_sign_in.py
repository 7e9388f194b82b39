"""Signing in, staying signed in, signing out; the development login stands for any other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from jose import jwt
from sqlalchemy import text
from sqlmodel import col, select, update

from auth import refresh_tokens
from auth.app import build
from auth.models import Audit, RefreshToken, User
from auth.settings import Settings
from common.db import Sessions, uuid7
from common.testing import running

Login = Callable[..., Awaitable[dict[str, Any]]]


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/auth/refresh", json={"refresh_token": token})


async def shift(sessions: Sessions, column: str, seconds: float, user_id: str) -> None:
    """Move a moment of all refresh tokens of a user, where it is set."""
    async with sessions.begin() as session:
        moved = {column: getattr(RefreshToken, column) + timedelta(seconds=seconds)}
        await session.exec(update(RefreshToken).where(col(RefreshToken.user_id) == UUID(user_id)).values(moved))


async def audited(sessions: Sessions, user_id: str) -> list[str]:
    async with sessions() as session:
        rows = await session.exec(select(Audit).where(Audit.subject == user_id).order_by(col(Audit.id)))
        return [row.action for row in rows]


async def ban(sessions: Sessions, user_id: str) -> None:
    async with sessions.begin() as session:
        await session.exec(update(User).where(col(User.id) == UUID(user_id)).values(status="banned"))


async def test_a_sign_in_answers_exactly_what_was_agreed(log_in: Login) -> None:
    signed_in = await log_in("Jinx@Example.com")
    assert signed_in.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert (signed_in["token_type"], signed_in["expires_in"]) == ("Bearer", 600)
    assert signed_in["user"] == {
        "id": signed_in["user"]["id"],
        "email": "jinx@example.com",
        "name": None,
        "locale": None,
        "role": "player",
        "plan": "free",
    }
    assert len(signed_in["refresh_token"]) == 43  # 256 bits


async def test_a_sign_in_is_never_stored_by_a_cache(client: httpx.AsyncClient) -> None:
    response = await client.post("/auth/dev/login", json={"email": "a@example.com"})
    assert response.headers["cache-control"] == "no-store"


async def test_a_second_sign_in_finds_the_same_account_and_starts_another_session(log_in: Login) -> None:
    first, second = await log_in("a@example.com"), await log_in("A@example.com")
    assert first["user"] == second["user"]
    sids = [jwt.get_unverified_claims(signed_in["access_token"])["sid"] for signed_in in (first, second)]
    assert sids[0] != sids[1]


async def test_development_role_and_plan_stay_until_changed_and_are_audited(log_in: Login, sessions: Sessions) -> None:
    granted = await log_in(role="admin", plan="premium")
    kept = await log_in()
    assert (kept["user"]["role"], kept["user"]["plan"]) == ("admin", "premium")
    assert (await log_in(role="viewer"))["user"]["role"] == "viewer"
    assert await audited(sessions, granted["user"]["id"]) == ["user.granted", "user.granted"]


async def test_a_grant_voids_the_access_tokens_before_it(log_in: Login) -> None:
    before, after = await log_in(plan="free"), await log_in(plan="premium")
    epochs = [jwt.get_unverified_claims(signed_in["access_token"])["epoch"] for signed_in in (before, after)]
    assert epochs == [0, 1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "nobody"},
        {"email": "a@b\x00c"},
        {"email": "a@example.com", "role": "owner"},
        {"email": "a@example.com", "plan": "gold"},
        {"email": "a@example.com", "extra": 1},
        {"email": "a" * 250 + "@example.com"},
    ],
)
async def test_a_malformed_sign_in_is_422(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    response = await client.post("/auth/dev/login", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_refresh_gives_new_tokens_of_the_same_session(client: httpx.AsyncClient, log_in: Login) -> None:
    first = await log_in()
    response = await refresh(client, first["refresh_token"])
    second = response.json()
    assert response.status_code == 200
    assert second.keys() == first.keys()
    assert second["user"] == first["user"]
    assert second["refresh_token"] != first["refresh_token"]
    claims = [jwt.get_unverified_claims(signed_in["access_token"]) for signed_in in (first, second)]
    assert claims[0]["sid"] == claims[1]["sid"]
    assert claims[0]["jti"] != claims[1]["jti"]


async def test_refresh_picks_up_a_changed_plan(client: httpx.AsyncClient, log_in: Login) -> None:
    before = await log_in(plan="free")
    await log_in(plan="premium")
    refreshed = (await refresh(client, before["refresh_token"])).json()
    assert refreshed["user"]["plan"] == "premium"
    assert jwt.get_unverified_claims(refreshed["access_token"])["plan"] == "premium"


async def test_a_reuse_within_the_window_gets_a_sibling_that_works(client: httpx.AsyncClient, log_in: Login) -> None:
    first = await log_in()
    siblings = [(await refresh(client, first["refresh_token"])).json()["refresh_token"] for _ in range(2)]
    assert siblings[0] != siblings[1]
    for sibling in siblings:
        assert (await refresh(client, sibling)).status_code == 200


async def test_five_tabs_refreshing_at_once_all_stay_signed_in(settings: Settings, committed: Sessions) -> None:
    async with running(build(settings)) as client:
        email = f"{uuid7()}@example.com"
        first = (await client.post("/auth/dev/login", json={"email": email})).json()
        tabs = await asyncio.gather(*(refresh(client, first["refresh_token"]) for _ in range(5)))
        assert [tab.status_code for tab in tabs] == [200] * 5
        again = await asyncio.gather(*(refresh(client, tab.json()["refresh_token"]) for tab in tabs))
        assert [tab.status_code for tab in again] == [200] * 5


async def test_a_replay_after_the_window_ends_the_whole_family(
    client: httpx.AsyncClient, log_in: Login, sessions: Sessions
) -> None:
    other_session = await log_in()
    first = await log_in()
    second = (await refresh(client, first["refresh_token"])).json()
    await shift(sessions, "used_at", -11, first["user"]["id"])

    replayed = await refresh(client, first["refresh_token"])
    assert (replayed.status_code, replayed.json()["code"]) == (401, "invalid_refresh_token")
    assert (await refresh(client, second["refresh_token"])).status_code == 401
    assert await audited(sessions, first["user"]["id"]) == ["session.replayed"]
    assert (await refresh(client, other_session["refresh_token"])).status_code == 200


async def test_a_replay_is_remembered_although_the_reply_is_an_error(settings: Settings, committed: Sessions) -> None:
    """Over real connections: what ends the family must be committed, not rolled back with the 401."""
    async with running(build(settings)) as client:
        email = f"{uuid7()}@example.com"
        first = (await client.post("/auth/dev/login", json={"email": email})).json()
        second = (await refresh(client, first["refresh_token"])).json()
        await shift(committed, "used_at", -11, first["user"]["id"])
        replays = await asyncio.gather(*(refresh(client, first["refresh_token"]) for _ in range(3)))
        assert [replay.status_code for replay in replays] == [401] * 3
        assert (await refresh(client, second["refresh_token"])).status_code == 401
    assert await audited(committed, first["user"]["id"]) == ["session.replayed"]


async def until_somebody_waits(sessions: Sessions) -> None:
    """Return once a connection of auth waits for a lock that another one holds."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE usename = 'auth' AND wait_event_type = 'Lock'")
    async with asyncio.timeout(5), sessions() as session:
        connection = await session.connection()
        while not await connection.scalar(waiting):
            await connection.execute(text("SELECT pg_stat_clear_snapshot()"))


async def test_a_refresh_during_a_logout_does_not_outlive_it(settings: Settings, committed: Sessions) -> None:
    async with running(build(settings)) as client:
        email = f"{uuid7()}@example.com"
        first = (await client.post("/auth/dev/login", json={"email": email})).json()
        async with committed.begin() as session:
            redeemed = await refresh_tokens.redeem(session, first["refresh_token"])
            assert redeemed
            await refresh_tokens.end_all(session, redeemed)
            refreshing = asyncio.create_task(refresh(client, first["refresh_token"]))
            await until_somebody_waits(committed)
        assert (await refreshing).status_code == 401


async def test_an_expired_refresh_token_is_refused(
    client: httpx.AsyncClient, log_in: Login, sessions: Sessions
) -> None:
    first = await log_in()
    await shift(sessions, "expires_at", -31 * 86_400, first["user"]["id"])
    assert (await refresh(client, first["refresh_token"])).status_code == 401


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"refresh_token": "never-issued"}, 401, "invalid_refresh_token"),
        ({"refresh_token": "\x00 우리 토큰"}, 401, "invalid_refresh_token"),
        ({"refresh_token": ""}, 422, "invalid_request"),
        ({"refresh_token": "a" * 257}, 422, "invalid_request"),
        ({"refresh_token": None}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
async def test_an_unusable_refresh_token_is_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, object], status: int, code: str
) -> None:
    response = await client.post(path, json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_refusal_speaks_the_callers_language(client: httpx.AsyncClient) -> None:
    body = {"refresh_token": "never-issued"}
    korean = await client.post("/auth/refresh", json=body, headers={"Accept-Language": "ko-KR,en;q=0.5"})
    english = await client.post("/auth/refresh", json=body)
    assert korean.json()["title"] == "세션이 만료되었습니다. 다시 로그인해 주세요"
    assert english.json()["title"] == "Your session has ended, please sign in again"


async def test_logout_ends_this_session_and_no_other(client: httpx.AsyncClient, log_in: Login) -> None:
    here, there = await log_in(), await log_in()
    response = await client.post("/auth/logout", json={"refresh_token": here["refresh_token"]})
    assert (response.status_code, response.json()) == (200, {"ended": "session"})
    assert (await refresh(client, here["refresh_token"])).status_code == 401
    assert (await refresh(client, there["refresh_token"])).status_code == 200


async def test_logout_everywhere_ends_every_session_and_raises_the_epoch(
    client: httpx.AsyncClient, log_in: Login, sessions: Sessions
) -> None:
    here, there, stranger = await log_in(), await log_in(), await log_in("stranger@example.com")
    body = {"refresh_token": here["refresh_token"], "everywhere": True}
    response = await client.post("/auth/logout", json=body)
    assert (response.status_code, response.json()) == (200, {"ended": "everywhere"})
    for ended in (here, there):
        assert (await refresh(client, ended["refresh_token"])).status_code == 401
    assert (await refresh(client, stranger["refresh_token"])).status_code == 200
    assert jwt.get_unverified_claims((await log_in())["access_token"])["epoch"] == 1
    assert await audited(sessions, here["user"]["id"]) == ["session.ended_everywhere"]


async def test_a_banned_player_can_neither_sign_in_nor_refresh(
    client: httpx.AsyncClient, log_in: Login, sessions: Sessions
) -> None:
    signed_in = await log_in("banned@example.com")
    await ban(sessions, signed_in["user"]["id"])
    answers = [
        await client.post("/auth/dev/login", json={"email": "banned@example.com"}),
        await refresh(client, signed_in["refresh_token"]),
        await client.get("/auth/me", headers={"Authorization": f"Bearer {signed_in['access_token']}"}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "account_banned")] * 3


async def test_no_stored_token_can_be_used_by_who_reads_the_table(log_in: Login, sessions: Sessions) -> None:
    signed_in = await log_in()
    async with sessions() as session:
        row = (
            await session.exec(select(RefreshToken).where(RefreshToken.user_id == UUID(signed_in["user"]["id"])))
        ).one()
    assert signed_in["refresh_token"].encode() not in row.token_hash
    assert len(row.token_hash) == 32


async def test_logs_hold_no_address_and_no_token(
    client: httpx.AsyncClient, log_in: Login, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    signed_in = await log_in("private@example.com")
    await refresh(client, signed_in["refresh_token"])
    await client.post("/auth/logout", json={"refresh_token": signed_in["refresh_token"]})
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "request" in logged
    for secret in ("private@example.com", signed_in["refresh_token"], signed_in["access_token"]):
        assert secret not in logged
