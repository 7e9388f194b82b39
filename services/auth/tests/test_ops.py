"""What ops do with accounts and keys: in whose name, who may, what it voids, and what is written down."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from jose import jwt
from sqlmodel import col, select, update

from auth import user_search
from auth.app import build
from auth.models import RefreshToken, Revocation, SigningKey, User
from auth.settings import Settings
from common.db import Sessions, uuid7
from common.identity import ACTOR_HEADER
from common.testing import running

from .test_users import bearer, service_token

Login = Callable[..., Awaitable[dict[str, Any]]]
Ops = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def ops(client: httpx.AsyncClient, settings: Settings) -> Ops:
    """Asks auth as the admin service does: `await ops("GET", "/internal/keys", for_=signed_in)`."""
    token = await service_token(client, settings, "admin", "auth")

    async def ask(method: str, path: str, *, for_: dict[str, Any], json: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", ACTOR_HEADER: for_["access_token"]}
        return await client.request(method, path, json=json, headers=headers)

    return ask


@pytest.fixture
async def admin(log_in: Login) -> dict[str, Any]:
    return await log_in("ops@example.com", role="admin")


def path_of(signed_in: dict[str, Any]) -> str:
    return f"/internal/users/{signed_in['user']['id']}"


async def ids(ops: Ops, admin: dict[str, Any], **asked: Any) -> list[str]:
    reply = await ops("POST", "/internal/users/search", for_=admin, json=asked)
    assert reply.status_code == 200, reply.text
    return [user["id"] for user in reply.json()["users"]]


async def voided(sessions: Sessions, signed_in: dict[str, Any]) -> int | None:
    """Below which epoch the tokens of a session are void."""
    sid = UUID(jwt.get_unverified_claims(signed_in["access_token"])["sid"])
    async with sessions() as session:
        epochs = (await session.exec(select(Revocation.epoch).where(Revocation.sid == sid))).all()
    return max(epochs, default=None)


ROUTES = [
    ("GET", "/internal/keys", None),
    ("POST", "/internal/keys/rotate", None),
    ("DELETE", f"/internal/keys/{uuid7()}", None),
    ("POST", "/internal/users/search", {}),
    ("GET", f"/internal/users/{uuid7()}", None),
    ("PATCH", f"/internal/users/{uuid7()}", {"plan": "premium"}),
    ("POST", f"/internal/users/{uuid7()}/logout", {}),
    ("DELETE", f"/internal/users/{uuid7()}", None),
]
READS = [("GET", "/internal/keys"), ("POST", "/internal/users/search"), ("GET", ROUTES[4][1])]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_every_route_needs_the_service_and_a_person_with_the_right(
    client: httpx.AsyncClient, ops: Ops, log_in: Login, settings: Settings, method: str, path: str, body: object
) -> None:
    admin, viewer, player = [await log_in(f"{role}@example.com", role=role) for role in ("admin", "viewer", "player")]
    assert (await client.request(method, path, json=body)).status_code == 401
    own_token = {**bearer(admin), ACTOR_HEADER: admin["access_token"]}
    assert (await client.request(method, path, json=body, headers=own_token)).status_code == 403
    other_service = {"Authorization": f"Bearer {await service_token(client, settings, 'coach', 'auth')}"}
    headers = {**other_service, ACTOR_HEADER: admin["access_token"]}
    assert (await client.request(method, path, json=body, headers=headers)).status_code == 403
    assert (await ops(method, path, for_={"access_token": "nobody"}, json=body)).status_code == 401
    assert (await ops(method, path, for_=player, json=body)).status_code == 403
    seen = (await ops(method, path, for_=viewer, json=body)).status_code
    assert seen in ((200, 404) if (method, path) in READS else (403,))
    assert (await ops(method, path, for_=admin, json=body)).status_code in (200, 202, 404)


async def test_users_are_found_by_what_is_known_of_them(ops: Ops, admin: dict[str, Any], log_in: Login) -> None:
    word = uuid7().hex
    jinx = (await log_in(f"jinx-{word}@example.com", plan="premium"))["user"]["id"]
    vi = (await log_in(f"vi-{word}@example.com", role="viewer"))["user"]["id"]
    assert await ids(ops, admin, email=f"JINX-{word}") == [jinx]
    assert await ids(ops, admin, email=f"{word}") == []
    assert await ids(ops, admin, id=vi) == [vi]
    assert await ids(ops, admin, id=vi, role="player") == []
    assert jinx in await ids(ops, admin, plan="premium", status="active")
    assert vi not in await ids(ops, admin, status="banned")


async def test_a_name_is_found_by_a_part_of_it_and_a_wildcard_is_a_letter(
    client: httpx.AsyncClient, ops: Ops, admin: dict[str, Any], log_in: Login
) -> None:
    named = await log_in("named@example.com")
    await client.patch("/auth/me", json={"name": "100%_징크스"}, headers=bearer(named))
    for part in ("징크", "%_", "100%"):
        assert await ids(ops, admin, name=part) == [named["user"]["id"]]
    for part in ("징_스", "1%징"):
        assert await ids(ops, admin, name=part) == []
    assert await ids(ops, admin, email="named%") == []


async def test_pages_follow_each_other_newest_first_without_gap_or_repeat(
    ops: Ops, admin: dict[str, Any], log_in: Login
) -> None:
    word = uuid7().hex
    made = [(await log_in(f"{word}-{number}@example.com"))["user"]["id"] for number in range(5)]
    seen: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        asked = {"email": word, "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await ops("POST", "/internal/users/search", for_=admin, json=asked)).json()
        assert len(page["users"]) == size
        seen += [user["id"] for user in page["users"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (made[::-1], None)


@pytest.mark.parametrize(
    "asked", [{"limit": 0}, {"limit": 201}, {"email": ""}, {"email": "a\0"}, {"name": "x" * 255}, {"q": "x"}, {"id": 7}]
)
async def test_a_search_that_makes_no_sense_is_422(ops: Ops, admin: dict[str, Any], asked: object) -> None:
    assert (await ops("POST", "/internal/users/search", for_=admin, json=asked)).status_code == 422


async def test_a_user_is_shown_with_live_sessions_and_history(
    client: httpx.AsyncClient, ops: Ops, admin: dict[str, Any], log_in: Login
) -> None:
    ended, used, fresh = [await log_in("a@example.com") for _ in range(3)]
    await client.post("/auth/logout", json={"refresh_token": ended["refresh_token"]})
    await client.post("/auth/refresh", json={"refresh_token": used["refresh_token"]})
    shown = (await ops("GET", path_of(used), for_=admin)).json()
    assert (shown["email"], shown["issuer"], shown["status"]) == ("a@example.com", "dugout:development", "active")
    sids = [jwt.get_unverified_claims(signed_in["access_token"])["sid"] for signed_in in (used, fresh)]
    assert [entry["sid"] for entry in shown["sessions"]] == sids
    first, second = shown["sessions"]
    assert first["created_at"] < first["last_used_at"]
    assert second["created_at"] == second["last_used_at"]
    assert [(entry["action"], entry["actor"]) for entry in shown["audit"]] == [("session.ended", used["user"]["id"])]


async def test_an_expired_session_is_not_shown(
    ops: Ops, admin: dict[str, Any], log_in: Login, sessions: Sessions
) -> None:
    signed_in = await log_in()
    async with sessions.begin() as session:
        past = col(RefreshToken.expires_at) - timedelta(days=31)
        owned = col(RefreshToken.user_id) == UUID(signed_in["user"]["id"])
        await session.exec(update(RefreshToken).where(owned).values(expires_at=past))
    assert (await ops("GET", path_of(signed_in), for_=admin)).json()["sessions"] == []


async def test_a_ban_ends_every_session_and_the_player_is_told_why_nothing_works(
    client: httpx.AsyncClient, ops: Ops, admin: dict[str, Any], log_in: Login, sessions: Sessions
) -> None:
    here, there = await log_in("p@example.com"), await log_in("p@example.com")
    banned = await ops("PATCH", path_of(here), for_=admin, json={"status": "banned", "reason": "욕설"})
    assert (banned.status_code, banned.json()["status"], banned.json()["sessions"]) == (200, "banned", [])
    for signed_in in (here, there):
        assert await voided(sessions, signed_in) == 2**31 - 1
        refreshed = await client.post("/auth/refresh", json={"refresh_token": signed_in["refresh_token"]})
        assert (refreshed.status_code, refreshed.json()["code"]) == (403, "account_banned")
    again = await client.post("/auth/dev/login", json={"email": "p@example.com"})
    assert (again.status_code, again.json()["code"]) == (403, "account_banned")
    (entry,) = banned.json()["audit"]
    assert (entry["action"], entry["actor"]) == ("user.changed", admin["user"]["id"])
    assert entry["detail"] == {"before": {"status": "active"}, "after": {"status": "banned"}, "reason": "욕설"}


async def test_an_unbanned_player_signs_in_anew_and_old_sessions_stay_over(
    client: httpx.AsyncClient, ops: Ops, admin: dict[str, Any], log_in: Login
) -> None:
    held = await log_in("p@example.com")
    for status in ("banned", "active"):
        body = {"status": status, "reason": "appeal"}
        assert (await ops("PATCH", path_of(held), for_=admin, json=body)).status_code == 200
    old = await client.post("/auth/refresh", json={"refresh_token": held["refresh_token"]})
    assert (old.status_code, old.json()["code"]) == (401, "invalid_refresh_token")
    new = await log_in("p@example.com")
    assert (await client.get("/auth/me", headers=bearer(new))).status_code == 200


@pytest.mark.parametrize("change", [{"plan": "premium"}, {"role": "viewer"}])
async def test_a_new_role_or_plan_voids_older_tokens_and_a_refresh_brings_it(
    client: httpx.AsyncClient,
    ops: Ops,
    admin: dict[str, Any],
    log_in: Login,
    sessions: Sessions,
    change: dict[str, str],
) -> None:
    held = await log_in("p@example.com")
    changed = await ops("PATCH", path_of(held), for_=admin, json=change)
    assert changed.status_code == 200
    assert await voided(sessions, held) == 1
    refreshed = (await client.post("/auth/refresh", json={"refresh_token": held["refresh_token"]})).json()
    claims = jwt.get_unverified_claims(refreshed["access_token"])
    assert claims["epoch"] == 1
    assert change.items() <= claims.items()


async def test_a_change_to_what_already_is_changes_nothing(
    ops: Ops, admin: dict[str, Any], log_in: Login, sessions: Sessions
) -> None:
    held = await log_in("p@example.com", plan="premium")
    same = {"plan": "premium", "role": "player", "status": "active", "reason": "none"}
    shown = (await ops("PATCH", path_of(held), for_=admin, json=same)).json()
    assert [entry["action"] for entry in shown["audit"]] == ["user.granted"]
    assert await voided(sessions, held) is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "none"},
        {"status": "banned"},
        {"status": "banned", "reason": "  "},
        {"status": "gone", "reason": "x"},
        {"role": "root"},
        {"plan": None},
        {"plan": "premium", "email": "x@example.com"},
        {"plan": "premium", "reason": "x" * 501},
        {"plan": "premium", "reason": "a\0b"},
    ],
)
async def test_a_change_that_makes_no_sense_is_422(
    ops: Ops, admin: dict[str, Any], log_in: Login, body: object
) -> None:
    assert (await ops("PATCH", path_of(await log_in()), for_=admin, json=body)).status_code == 422


@pytest.mark.parametrize("body", [{"role": "player"}, {"role": "viewer"}, {"status": "banned", "reason": "farewell"}])
async def test_nobody_takes_away_their_own_access(ops: Ops, admin: dict[str, Any], body: object) -> None:
    refused = await ops("PATCH", path_of(admin), for_=admin, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "own_account")
    assert (await ops("PATCH", path_of(admin), for_=admin, json={"plan": "premium"})).status_code == 200


async def test_two_admins_who_demote_each_other_leave_one(settings: Settings, committed: Sessions) -> None:
    async with running(build(settings)) as client:
        token = await service_token(client, settings, "admin", "auth")
        admins = []
        for _ in range(2):
            body = {"email": f"{uuid7()}@example.com", "role": "admin"}
            admins.append((await client.post("/auth/dev/login", json=body)).json())

        async def demote(target: dict[str, Any], actor: dict[str, Any]) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}", ACTOR_HEADER: actor["access_token"]}
            return await client.patch(path_of(target), json={"role": "player"}, headers=headers)

        replies = await asyncio.gather(demote(admins[0], admins[1]), demote(admins[1], admins[0]))
    assert sorted(reply.status_code for reply in replies) == [200, 409]
    assert {reply.json().get("code") for reply in replies} == {None, "no_longer_admin"}
    async with committed() as session:
        both = [UUID(admin["user"]["id"]) for admin in admins]
        roles = (await session.exec(select(User.role).where(col(User.id).in_(both)))).all()
    assert sorted(roles) == ["admin", "player"]


async def test_ending_the_sessions_of_a_user_leaves_the_account(
    client: httpx.AsyncClient, ops: Ops, admin: dict[str, Any], log_in: Login, sessions: Sessions
) -> None:
    held = [await log_in("p@example.com") for _ in range(2)]
    ended = await ops("POST", f"{path_of(held[0])}/logout", for_=admin, json={"reason": "lost phone"})
    assert (ended.status_code, ended.json()) == (200, {"sessions": 2})
    for signed_in in held:
        assert await voided(sessions, signed_in) == 2**31 - 1
        assert (
            await client.post("/auth/refresh", json={"refresh_token": signed_in["refresh_token"]})
        ).status_code == 401
    assert (await log_in("p@example.com"))["user"]["id"] == held[0]["user"]["id"]
    (entry,) = (await ops("GET", path_of(held[0]), for_=admin)).json()["audit"]
    assert (entry["action"], entry["actor"]) == ("user.signed_out", admin["user"]["id"])
    assert entry["detail"] == {"sessions": 2, "reason": "lost phone"}


async def test_all_sessions_that_end_are_counted_though_only_the_newest_are_shown(
    ops: Ops, admin: dict[str, Any], log_in: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_search, "NEWEST", 2)
    held = [await log_in("p@example.com") for _ in range(3)]
    assert len((await ops("GET", path_of(held[0]), for_=admin)).json()["sessions"]) == 2
    assert (await ops("POST", f"{path_of(held[0])}/logout", for_=admin, json={})).json() == {"sessions": 3}


async def test_ops_rotate_and_see_keys_but_never_a_private_part(ops: Ops, admin: dict[str, Any]) -> None:
    (before,) = (await ops("GET", "/internal/keys", for_=admin)).json()["keys"]
    for _ in range(2):  # again while the first waits: nothing more happens
        reply = await ops("POST", "/internal/keys/rotate", for_=admin)
        assert reply.status_code == 202
        old, new = reply.json()["keys"]
        assert old == before
        assert (old["state"], new["state"]) == ("active", "next")
        assert new.keys() == {"kid", "state", "since", "signs_from", "kept_until"}
        assert new["signs_from"] > new["since"]


async def test_a_leaked_key_is_dropped_before_its_time(
    ops: Ops, admin: dict[str, Any], client: httpx.AsyncClient, sessions: Sessions
) -> None:
    await ops("POST", "/internal/keys/rotate", for_=admin)
    async with sessions.begin() as session:
        minutes = col(SigningKey.state_since) - timedelta(minutes=1)
        await session.exec(update(SigningKey).values(state_since=minutes))
    old, new = (await ops("GET", "/internal/keys", for_=admin)).json()["keys"]
    assert (old["state"], new["state"]) == ("retired", "active")
    refused = await ops("DELETE", f"/internal/keys/{new['kid']}", for_=admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "key_in_use")
    assert (await ops("DELETE", f"/internal/keys/{old['kid']}", for_=admin)).status_code == 204
    assert (await ops("DELETE", f"/internal/keys/{old['kid']}", for_=admin)).status_code == 404
    assert (await ops("GET", "/internal/keys", for_=admin)).json()["keys"] == [new]
