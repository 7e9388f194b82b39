"""Tests of erasing a person: at once, until it is done, whatever fails or dies, and for good."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography.fernet import Fernet
from jose import jwt
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlmodel import col, delete, select, update

from auth import erasures, users
from auth.app import build
from auth.clients import open_holders
from auth.erasures import Erasures
from auth.keys import open_key_ring
from auth.models import Audit, Erasure, Revocation, User
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.db import Sessions
from common.errors import UnauthorizedError
from common.identity import ACTOR_HEADER
from common.testing import running

from .conftest import Holders
from .test_users import service_token


@pytest.fixture(autouse=True)
async def nothing_ordered(committed: Sessions) -> None:
    """No erasure of another test is left."""
    async with committed.begin() as session:
        await session.exec(delete(Erasure))


@pytest.fixture
def told(settings: Settings, holders: Holders) -> Settings:
    """Settings that name the holders, and repeat an erasure after a moment."""
    urls = {f"{name}_url": holder.server.url for name, holder in holders.items()}
    return settings.model_copy(update={**urls, "erasure_repeat_seconds": [0.5]})


@pytest.fixture
async def client(told: Settings, committed: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    """An auth whose work stays: an erasure takes several transactions."""
    async with running(build(told)) as client:
        yield client


class Person:
    """Somebody signed in."""

    def __init__(self, signed_in: dict[str, Any], email: str) -> None:
        self.id = UUID(signed_in["user"]["id"])
        self.email = email
        self.headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
        self.refresh_token = signed_in["refresh_token"]


async def sign_in(client: httpx.AsyncClient, **body: str) -> Person:
    email = body.setdefault("email", f"{uuid4().hex}@example.com")
    reply = await client.post("/auth/dev/login", json=body)
    assert reply.status_code == 200, reply.text
    return Person(reply.json(), email)


async def erase(client: httpx.AsyncClient, person: Person) -> dict[str, Any]:
    reply = await client.delete("/auth/me", headers=person.headers)
    assert reply.status_code == 202, reply.text
    receipt: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/auth/erasures/{receipt['id']}"
    return receipt


async def receipt_once_done(client: httpx.AsyncClient, erasure_id: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            receipt: dict[str, Any] = (await client.get(f"/auth/erasures/{erasure_id}")).json()
            if receipt["state"] == "done":
                return receipt
            await asyncio.sleep(0.05)


async def row_once_unsealed(sessions: Sessions, erasure_id: str) -> Erasure:
    async with asyncio.timeout(20):
        while True:
            async with sessions() as session:
                erasure = await session.get_one(Erasure, UUID(erasure_id))
            if erasure.sealed is None:
                return erasure
            await asyncio.sleep(0.05)


async def rows_with(sessions: Sessions, *words: str) -> list[str]:
    """Rows of any table in which one of the words stands, whatever the column."""
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'auth'"
    found = []
    async with sessions() as session:
        for (table,) in (await session.exec(text(tables))).all():  # type: ignore[call-overload]
            rows = await session.exec(text(f'SELECT t::text FROM auth."{table}" t'))  # type: ignore[call-overload]  # noqa: S608
            found += [f"{table}: {row}" for (row,) in rows if any(word in row for word in words)]
    return found


async def test_a_person_is_erased_everywhere_at_once(
    client: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person = await sign_in(client)
    await client.post("/auth/refresh", json={"refresh_token": person.refresh_token})
    assert len(await rows_with(committed, str(person.id), person.email)) >= 3
    receipt = await erase(client, person)
    assert receipt["state"] == "done"
    assert receipt["services"] == dict.fromkeys(("auth", "coach", "worker", "admin"), "done")
    assert receipt["finished_at"] >= receipt["requested_at"]
    assert await rows_with(committed, str(person.id), person.email) == []
    [pseudonym] = {order.pseudonym for holder in holders.values() for order in holder.erased}
    for name, holder in holders.items():
        assert [(order.user_id, order.scope) for order in holder.erased] == [(person.id, f"{name} {name}:privacy")]
    assert pseudonym != person.id


async def test_whoever_is_erased_is_signed_out_and_a_second_request_is_a_401(
    client: httpx.AsyncClient, committed: Sessions
) -> None:
    person = await sign_in(client)
    await erase(client, person)
    sid = UUID(jwt.get_unverified_claims(person.headers["Authorization"].split()[1])["sid"])
    async with committed() as session:  # which every other service reads
        assert len((await session.exec(select(Revocation).where(Revocation.sid == sid))).all()) == 1
    for call in (client.delete, client.get):
        reply = await call("/auth/me", headers=person.headers)
        assert reply.status_code == 401
    refreshed = await client.post("/auth/refresh", json={"refresh_token": person.refresh_token})
    assert refreshed.status_code == 401


async def test_of_requests_at_the_same_moment_one_erases(client: httpx.AsyncClient, holders: Holders) -> None:
    person = await sign_in(client)
    replies = await asyncio.gather(*(client.delete("/auth/me", headers=person.headers) for _ in range(5)))
    assert sorted(reply.status_code for reply in replies) == [202, 401, 401, 401, 401]
    assert {order.user_id for order in holders["coach"].erased} == {person.id}


async def test_a_service_that_is_down_is_asked_until_it_is_back(
    client: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person = await sign_in(client)
    holders["worker"].server.stop()
    try:
        receipt = await erase(client, person)
        assert (receipt["state"], receipt["finished_at"]) == ("pending", None)
        assert receipt["services"] == {"auth": "done", "coach": "done", "worker": "pending", "admin": "done"}
        assert await rows_with(committed, str(person.id), person.email) == []
    finally:
        holders["worker"].server.start()
    done = await receipt_once_done(client, receipt["id"])
    assert set(done["services"].values()) == {"done"}
    assert holders["worker"].erased[0].pseudonym == holders["coach"].erased[0].pseudonym


async def test_everybody_is_asked_once_more_and_then_nobody_knows_who_it_was(
    client: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person = await sign_in(client)
    receipt = await erase(client, person)
    async with committed.begin() as session:  # by a request that was under way
        session.add(Audit(actor=str(person.id), action="session.ended", subject=str(person.id)))
    erasure = await row_once_unsealed(committed, receipt["id"])
    for holder in holders.values():
        assert [order.user_id for order in holder.erased] == [person.id] * 2
        assert len(set(holder.erased)) == 1
    assert erasure.finished_at is not None
    assert erasure.finished_at.isoformat().startswith(receipt["finished_at"][:19])
    assert await rows_with(committed, str(person.id)) == []


async def test_a_receipt_that_never_was_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/auth/erasures/{uuid4()}")).status_code == 404
    assert (await client.get("/auth/erasures/1")).status_code == 422


async def test_an_operator_erases_who_is_banned_and_the_ban_outlasts_the_account(
    client: httpx.AsyncClient, committed: Sessions, told: Settings, holders: Holders
) -> None:
    banned, operator = await sign_in(client), await sign_in(client, role="admin")
    async with committed.begin() as session:
        await session.exec(update(User).where(col(User.id) == banned.id).values(status="banned"))
    token = await service_token(client, told, "admin", "auth")
    headers = {"Authorization": f"Bearer {token}", ACTOR_HEADER: operator.headers["Authorization"].split()[1]}
    erased = await client.delete(f"/internal/users/{banned.id}", headers=headers)
    assert (erased.status_code, erased.json()["state"]) == (202, "done")
    assert (await client.delete(f"/internal/users/{banned.id}", headers=headers)).status_code == 404
    own = await client.delete(f"/internal/users/{operator.id}", headers=headers)
    assert (own.status_code, own.json()["code"]) == (409, "own_account")
    for _ in range(2):
        reply = await client.post("/auth/dev/login", json={"email": banned.email})
        assert (reply.status_code, reply.json()["code"]) == (403, "account_banned")
    assert await rows_with(committed, str(banned.id), banned.email) == []
    async with committed() as session:
        entries = select(Audit).where(Audit.actor == str(operator.id), Audit.action == "user.erased")
        assert len((await session.exec(entries)).all()) == 1


async def test_who_was_not_banned_may_start_anew_as_somebody_else(client: httpx.AsyncClient) -> None:
    person = await sign_in(client)
    await erase(client, person)
    again = await sign_in(client, email=person.email)
    assert again.id != person.id
    await erase(client, again)


async def test_the_audit_keeps_what_happened_under_the_pseudonym(
    client: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person, operator, other = await sign_in(client, role="admin"), uuid4(), uuid4()
    entries = [
        Audit(actor=str(operator), action="user.changed", subject=str(person.id), detail={"reason": person.email}),
        Audit(actor=str(person.id), action="user.changed", subject=str(other), detail={"reason": "rude"}),
        Audit(actor=str(person.id), action="key.made", subject="s", detail={"by": {"id": str(person.id)}}),
    ]
    ids = [entry.id for entry in entries]
    async with committed.begin() as session:
        session.add_all(entries)
    await erase(client, person)
    pseudonym = str(holders["coach"].erased[0].pseudonym)
    async with committed() as session:
        kept = (await session.exec(select(Audit).where(col(Audit.id).in_(ids)).order_by(col(Audit.id)))).all()
        last = (await session.exec(select(Audit).where(Audit.action == "user.erased", Audit.actor == pseudonym))).all()
    assert [(entry.actor, entry.subject, entry.detail) for entry in kept] == [
        (str(operator), pseudonym, {}),
        (pseudonym, str(other), {"reason": "rude"}),
        (pseudonym, "s", {"by": {"id": pseudonym}}),
    ]
    assert len(last) == 1


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while True:
            if happened():
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def process(told: Settings, sessions: Sessions) -> AsyncIterator[Erasures]:
    """The erasures of an auth process that has no background of its own."""
    encryption = Fernet(told.key_encryption_key.get_secret_value())
    keys = await open_key_ring(sessions, encryption)
    async with open_holders(told, TokenIssuer(keys, issuer=told.issuer, lifetime_seconds=60)) as found:
        yield Erasures(sessions, found, encryption, told.erasure_key, [])


@pytest.fixture
async def person_id(committed: Sessions) -> UUID:
    """An account."""
    async with committed.begin() as session:
        user = await users.find_or_create(session, issuer="tests", subject=uuid4().hex, email=None)
    return user.id


async def make_due(sessions: Sessions) -> None:
    """Let every lease lapse."""
    async with sessions.begin() as session:
        await session.exec(update(Erasure).values(due_at=col(Erasure.requested_at)))


async def test_what_a_process_left_when_it_died_another_one_finishes(
    told: Settings, committed: Sessions, holders: Holders, person_id: UUID
) -> None:
    holders["admin"].go_on.clear()
    async with process(told, committed) as dying, process(told, committed) as another:
        ordering = asyncio.create_task(dying.order(person_id))
        await until(lambda: bool(holders["admin"].erased))
        ordering.cancel()
        await asyncio.gather(ordering, return_exceptions=True)
        assert await another.carry_out_due() == 0
        await make_due(committed)
        holders["admin"].go_on.set()
        assert await another.carry_out_due() == 1
        assert await another.carry_out_due() == 0
    assert {order.user_id for order in holders["coach"].erased} == {person_id}
    assert len({order.pseudonym for holder in holders.values() for order in holder.erased}) == 1
    assert await rows_with(committed, str(person_id)) == []


async def test_several_processes_share_the_work(
    told: Settings, committed: Sessions, holders: Holders, person_id: UUID
) -> None:
    holders["coach"].broken = True
    async with process(told, committed) as one, process(told, committed) as two:
        assert (await one.order(person_id)).state == "pending"
        await make_due(committed)
        holders["coach"].broken = False
        holders["coach"].go_on.clear()
        working = asyncio.create_task(one.carry_out_due())
        await until(lambda: len(holders["coach"].erased) == 2)
        assert await two.carry_out_due() == 0
        holders["coach"].go_on.set()
        assert await working == 1
    assert len(holders["coach"].erased) == 2


async def test_a_slow_service_does_not_keep_the_player_waiting(
    told: Settings, committed: Sessions, holders: Holders, person_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasures, "AT_ONCE_SECONDS", 0.2)
    holders["coach"].go_on.clear()
    async with process(told, committed) as auth:
        receipt = await auth.order(person_id)
        holders["coach"].go_on.set()
    assert receipt.services == {"auth": "done", "coach": "pending", "worker": "done", "admin": "done"}


async def test_nobody_is_erased_twice(told: Settings, committed: Sessions, holders: Holders, person_id: UUID) -> None:
    async with process(told, committed) as auth:
        await auth.order(person_id)
        with pytest.raises(UnauthorizedError):
            await auth.order(person_id)


async def test_an_erasure_that_is_overdue_is_told_and_counted(
    client: httpx.AsyncClient,
    told: Settings,
    committed: Sessions,
    holders: Holders,
    person_id: UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    holders["coach"].broken = True
    async with process(told, committed) as auth:
        receipt = await auth.order(person_id)
        async with committed.begin() as session:
            hours_ago = col(Erasure.requested_at) - timedelta(hours=2)
            await session.exec(
                update(Erasure).where(col(Erasure.id) == receipt.id).values(requested_at=hours_ago, due_at=hours_ago)
            )
        with caplog.at_level(logging.WARNING):
            await until(lambda: "erasure overdue" in caplog.messages)
            await until(lambda: (REGISTRY.get_sample_value("auth_erasure_oldest_seconds") or 0) >= 7200)
        assert (REGISTRY.get_sample_value("auth_erasures_pending") or 0) >= 1
        holders["coach"].broken = False
        await make_due(committed)
        assert (await receipt_once_done(client, str(receipt.id)))["state"] == "done"


async def test_an_erasure_sealed_with_another_key_is_told_and_kept(
    told: Settings, committed: Sessions, holders: Holders, person_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    holders["coach"].broken = True
    async with process(told, committed) as auth:
        await auth.order(person_id)
        await make_due(committed)
        stranger = Erasures(committed, auth.holders, Fernet(Fernet.generate_key()), told.erasure_key, [])
        assert await stranger.carry_out_due() == 1
        assert "erasure sealed with another key" in caplog.messages
        holders["coach"].broken = False
        await make_due(committed)
        assert await auth.carry_out_due() == 1
