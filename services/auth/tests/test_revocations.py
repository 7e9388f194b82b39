"""What voids which tokens already given out, who is told, and what is forgotten when."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from jose import jwt
from sqlalchemy import func, text
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from auth import revocations
from auth.app import build
from auth.models import RefreshToken, Revocation, User
from auth.settings import Settings
from common import revocations as polling
from common.db import Sessions, utc_now, uuid7
from common.identity import ACTOR_HEADER
from common.testing import running

from .test_users import bearer, service_token

SignedIn = dict[str, Any]
Login = Callable[..., Awaitable[SignedIn]]
Act = Callable[[httpx.AsyncClient, Settings, Sessions, SignedIn], Awaitable[None]]

WITHIN_SECONDS = 5.0


@pytest.fixture
async def live(settings: Settings, committed: Sessions, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Auth over connections of its own, where a poll of its own sees what another request has committed."""
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.02)
    async with running(build(settings)) as client:
        yield client


async def sign_in(client: httpx.AsyncClient, email: str | None = None, **body: Any) -> SignedIn:
    response = await client.post("/auth/dev/login", json={"email": email or f"{uuid7()}@example.com", **body})
    assert response.status_code == 200, response.text
    signed_in: SignedIn = response.json()
    return signed_in


async def log_out(client: httpx.AsyncClient, _: Settings, __: Sessions, who: SignedIn) -> None:
    await client.post("/auth/logout", json={"refresh_token": who["refresh_token"]})


async def log_out_everywhere(client: httpx.AsyncClient, _: Settings, __: Sessions, who: SignedIn) -> None:
    await client.post("/auth/logout", json={"refresh_token": who["refresh_token"], "everywhere": True})


async def replay(client: httpx.AsyncClient, _: Settings, committed: Sessions, who: SignedIn) -> None:
    await client.post("/auth/refresh", json={"refresh_token": who["refresh_token"]})
    async with committed.begin() as session:
        long_ago = {"used_at": col(RefreshToken.used_at) - timedelta(seconds=11)}
        mine = col(RefreshToken.user_id) == UUID(who["user"]["id"])
        await session.exec(update(RefreshToken).where(mine).values(long_ago))
    await client.post("/auth/refresh", json={"refresh_token": who["refresh_token"]})


def changed_by_ops(**changes: str) -> Act:
    async def change(client: httpx.AsyncClient, settings: Settings, _: Sessions, who: SignedIn) -> None:
        admin = await sign_in(client, role="admin")
        token = await service_token(client, settings, "admin", "auth")
        headers = {"Authorization": f"Bearer {token}", ACTOR_HEADER: admin["access_token"]}
        reply = await client.patch(f"/internal/users/{who['user']['id']}", json=changes, headers=headers)
        assert reply.status_code == 200, reply.text

    return change


async def until_refused(client: httpx.AsyncClient, who: SignedIn) -> httpx.Response:
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            reply = await client.get("/auth/me", headers=bearer(who))
            if reply.status_code == 401:
                return reply
            await asyncio.sleep(0.01)


async def is_in(client: httpx.AsyncClient, who: SignedIn) -> bool:
    return (await client.get("/auth/me", headers=bearer(who))).status_code == 200


@pytest.mark.parametrize(
    ("act", "other_session_lives"),
    [
        (log_out, True),
        (replay, True),
        (log_out_everywhere, False),
        (changed_by_ops(status="banned", reason="spam"), False),
        (changed_by_ops(plan="premium"), False),
        (changed_by_ops(role="viewer"), False),
    ],
    ids=["logout", "replay", "logout everywhere", "ban", "plan", "role"],
)
async def test_a_token_in_use_is_refused_soon_after(
    live: httpx.AsyncClient, settings: Settings, committed: Sessions, act: Act, other_session_lives: bool
) -> None:
    who, stranger = await sign_in(live), await sign_in(live)
    elsewhere = await sign_in(live, who["user"]["email"])
    assert await is_in(live, who)
    await act(live, settings, committed, who)
    assert (await until_refused(live, who)).json()["code"] == "token_revoked"
    assert await is_in(live, elsewhere) is other_session_lives
    assert await is_in(live, stranger)


async def test_after_a_plan_change_a_refresh_brings_a_token_that_holds(
    live: httpx.AsyncClient, settings: Settings, committed: Sessions
) -> None:
    who = await sign_in(live)
    await changed_by_ops(plan="premium")(live, settings, committed, who)
    await until_refused(live, who)
    renewed = (await live.post("/auth/refresh", json={"refresh_token": who["refresh_token"]})).json()
    assert jwt.get_unverified_claims(renewed["access_token"])["plan"] == "premium"
    assert await is_in(live, renewed)


async def page(sessions: Sessions, since: str | None = None) -> tuple[set[str], str]:
    """Sessions on the pages there are, and the cursor of what comes later."""
    sids, cursor, more = set[str](), since, True
    while more:
        async with sessions() as session:
            read = await revocations.read(session, cursor)
        sids |= {item.sid for item in read.revocations}
        cursor, more = read.next, read.more
    assert cursor
    return sids, cursor


async def record(session: AsyncSession, age: timedelta = timedelta()) -> str:
    sid = uuid7()
    session.add(Revocation(sid=sid, epoch=revocations.ENDED, at=utc_now() - age))
    await session.flush()
    return str(sid)


async def test_a_row_that_commits_after_a_later_one_was_read_is_read_too(committed: Sessions) -> None:
    _, cursor = await page(committed)
    async with committed() as slow, committed.begin() as quick:
        early = await record(slow)
        late = await record(quick)
        await quick.commit()
        seen, cursor = await page(committed, cursor)
        assert (early in seen, late in seen) == (False, True)
        await slow.commit()
    seen, _ = await page(committed, cursor)
    assert early in seen


async def test_a_page_holds_what_is_new_or_without_a_cursor_all_that_still_matters(committed: Sessions) -> None:
    async with committed.begin() as session:
        new, known, old = [
            await record(session, age) for age in (timedelta(), timedelta(minutes=5), timedelta(minutes=66))
        ]
    everything, cursor = await page(committed)
    assert (new in everything, known in everything, old in everything) == (True, True, False)
    recent, _ = await page(committed, cursor)
    assert (new in recent, known in recent) == (True, False)


async def test_a_long_list_comes_in_pages_rows_of_one_moment_too(
    committed: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "PAGE", 3)
    sids = [uuid7() for _ in range(10)]
    moment = utc_now()
    async with committed.begin() as session:
        session.add_all(Revocation(sid=sid, epoch=1, at=moment) for sid in sids)
    async with committed() as session:
        assert len((await revocations.read(session, None)).revocations) == 3
    everything, cursor = await page(committed)
    recent, _ = await page(committed, cursor)
    assert {str(sid) for sid in sids} <= recent & everything


async def test_a_clock_that_was_set_back_hides_nothing(committed: Sessions) -> None:
    async with committed.begin() as session:
        now = (await session.exec(select(func.now()))).one()
        sid = await record(session)
    ahead = str(int((now.timestamp() + 3600) * 1_000_000))
    assert sid in (await page(committed, ahead))[0]


async def test_sessions_without_a_living_access_token_are_not_listed(log_in: Login, sessions: Sessions) -> None:
    fresh, stale = await log_in(), await log_in()
    sids = [UUID(jwt.get_unverified_claims(one["access_token"])["sid"]) for one in (fresh, stale)]
    async with sessions.begin() as session:
        long_ago = {"created_at": utc_now() - timedelta(minutes=66)}
        await session.exec(update(RefreshToken).where(col(RefreshToken.family) == sids[1]).values(long_ago))
        [user] = await session.exec(select(User).where(User.id == UUID(fresh["user"]["id"])))
        await revocations.void_sessions(session, user)
        listed = (await session.exec(select(Revocation.sid).where(col(Revocation.sid).in_(sids)))).all()
        live = (await session.exec(select(RefreshToken.revoked_at).where(RefreshToken.user_id == user.id))).all()
    assert listed == sids[:1]
    assert None not in live


async def test_all_sessions_end_however_many_there_are(log_in: Login, sessions: Sessions) -> None:
    who = UUID((await log_in())["user"]["id"])
    many = """
    INSERT INTO auth.refresh_token (id, user_id, family, token_hash, created_at, expires_at)
    SELECT gen_random_uuid(), :who, gen_random_uuid(), sha256(int8send(n)), now(), now() + interval '1 day'
    FROM generate_series(1, 11000) AS n
    """
    async with sessions.begin() as session:
        await session.exec(text(many), params={"who": who})
        await revocations.void_sessions(session, await session.get_one(User, who))
        mine = select(RefreshToken.family).where(RefreshToken.user_id == who)
        listed = select(func.count()).select_from(Revocation).where(col(Revocation.sid).in_(mine))
        assert (await session.exec(listed)).one() == 11_001


async def test_a_session_that_has_ended_is_not_listed_again(log_in: Login, sessions: Sessions) -> None:
    ended, living = await log_in(), await log_in()
    sids = [UUID(jwt.get_unverified_claims(one["access_token"])["sid"]) for one in (ended, living)]
    async with sessions.begin() as session:
        await revocations.void_session(session, sids[0])
        await revocations.void_sessions(session, await session.get_one(User, UUID(living["user"]["id"])))
        listed = (await session.exec(select(Revocation.sid).where(col(Revocation.sid).in_(sids)))).all()
    assert sorted(listed) == sorted(sids)


async def test_what_is_over_for_good_is_deleted_and_nothing_else(log_in: Login, sessions: Sessions) -> None:
    ended, recent, living = [(await log_in())["access_token"] for _ in range(3)]
    families = [UUID(jwt.get_unverified_claims(token)["sid"]) for token in (ended, recent, living)]
    async with sessions.begin() as session:
        for family, minutes in ((families[0], 66), (families[1], 5)):
            expired = {"expires_at": utc_now() - timedelta(minutes=minutes)}
            await session.exec(update(RefreshToken).where(col(RefreshToken.family) == family).values(expired))
        old, new = await record(session, timedelta(minutes=66)), await record(session)
        await revocations.forget_old(session)
        left = (await session.exec(select(RefreshToken.family).where(col(RefreshToken.family).in_(families)))).all()
        listed = {str(sid) for sid in await session.exec(select(Revocation.sid))}
    assert set(left) == set(families[1:])
    assert (old in listed, new in listed) == (False, True)


@pytest.mark.parametrize("client_id", ["gateway", "coach", "rag", "worker", "admin"])
async def test_every_service_may_read_the_list(
    client: httpx.AsyncClient, log_in: Login, settings: Settings, client_id: str
) -> None:
    who = await log_in()
    await client.post("/auth/logout", json={"refresh_token": who["refresh_token"]})
    token = await service_token(client, settings, client_id, "auth")
    reply = await client.get("/internal/revocations", headers={"Authorization": f"Bearer {token}"})
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
    sid = jwt.get_unverified_claims(who["access_token"])["sid"]
    assert {"sid": sid, "epoch": revocations.ENDED} in reply.json()["revocations"]


@pytest.mark.parametrize("since", ["yesterday", "-1", "1" * 17, "", "٣"])
async def test_a_cursor_of_ones_own_is_refused(client: httpx.AsyncClient, settings: Settings, since: str) -> None:
    headers = {"Authorization": f"Bearer {await service_token(client, settings, 'rag', 'auth')}"}
    reply = await client.get("/internal/revocations", params={"since": since}, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")


async def test_the_list_is_for_services_only(client: httpx.AsyncClient, log_in: Login) -> None:
    assert (await client.get("/internal/revocations")).status_code == 401
    for role in ("player", "admin"):
        headers = bearer(await log_in(f"{role}@example.com", role=role))
        assert (await client.get("/internal/revocations", headers=headers)).status_code == 403
