"""Tests of erasing a person: at once, everywhere, and for good."""

import asyncio
from uuid import UUID, uuid4

import httpx
from jose import jwt
from sqlmodel import col, select, update

from auth.models import Audit, Revocation, User
from auth.settings import Settings
from common.db import Sessions
from common.identity import ACTOR_HEADER

from .conftest import Holders
from .erasing import (
    erase,
    receipt_once_done,
    row_once_unsealed,
    rows_with,
    sign_in,
    somebody_waits,
)
from .test_users import service_token


async def test_a_person_is_erased_everywhere_at_once(
    lasting: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person = await sign_in(lasting)
    await lasting.post("/auth/refresh", json={"refresh_token": person.refresh_token})
    assert len(await rows_with(committed, str(person.id), person.email)) >= 3
    receipt = await erase(lasting, person)
    assert receipt["state"] == "done"
    assert receipt["services"] == dict.fromkeys(("auth", "coach", "worker", "admin"), "done")
    assert receipt["finished_at"] >= receipt["requested_at"]
    assert await rows_with(committed, str(person.id), person.email) == []
    [pseudonym] = {order.pseudonym for holder in holders.values() for order in holder.erased}
    for name, holder in holders.items():
        assert [(order.user_id, order.scope) for order in holder.erased] == [(person.id, f"{name} {name}:privacy")]
    assert pseudonym != person.id


async def test_a_profile_that_is_changed_while_its_owner_is_erased_is_a_401(
    lasting: httpx.AsyncClient, committed: Sessions
) -> None:
    person = await sign_in(lasting)
    async with committed.begin() as session:
        account = await session.get_one(User, person.id, with_for_update=True)
        changing = asyncio.create_task(lasting.patch("/auth/me", headers=person.headers, json={"name": "Late"}))
        await somebody_waits(committed)
        await session.delete(account)
    assert (await changing).status_code == 401


async def test_whoever_is_erased_is_signed_out_and_a_second_request_is_a_401(
    lasting: httpx.AsyncClient, committed: Sessions
) -> None:
    person = await sign_in(lasting)
    await erase(lasting, person)
    sid = UUID(jwt.get_unverified_claims(person.headers["Authorization"].split()[1])["sid"])
    async with committed() as session:  # which every other service reads
        assert len((await session.exec(select(Revocation).where(Revocation.sid == sid))).all()) == 1
    for call in (lasting.delete, lasting.get):
        reply = await call("/auth/me", headers=person.headers)
        assert reply.status_code == 401
    refreshed = await lasting.post("/auth/refresh", json={"refresh_token": person.refresh_token})
    assert refreshed.status_code == 401


async def test_of_requests_at_the_same_moment_one_erases(lasting: httpx.AsyncClient, holders: Holders) -> None:
    person = await sign_in(lasting)
    replies = await asyncio.gather(*(lasting.delete("/auth/me", headers=person.headers) for _ in range(5)))
    assert sorted(reply.status_code for reply in replies) == [202, 401, 401, 401, 401]
    assert {order.user_id for order in holders["coach"].erased} == {person.id}


async def test_a_service_that_is_down_is_asked_until_it_is_back(
    lasting: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person = await sign_in(lasting)
    holders["worker"].server.stop()
    try:
        receipt = await erase(lasting, person)
        assert (receipt["state"], receipt["finished_at"]) == ("pending", None)
        assert receipt["services"] == {"auth": "done", "coach": "done", "worker": "pending", "admin": "done"}
        assert await rows_with(committed, str(person.id), person.email) == []
    finally:
        holders["worker"].server.start()
    done = await receipt_once_done(lasting, receipt["id"])
    assert set(done["services"].values()) == {"done"}
    assert holders["worker"].erased[0].pseudonym == holders["coach"].erased[0].pseudonym


async def test_everybody_is_asked_once_more_and_then_nobody_knows_who_it_was(
    lasting: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person = await sign_in(lasting)
    receipt = await erase(lasting, person)
    async with committed.begin() as session:  # by a request that was under way
        session.add(Audit(actor=str(person.id), action="session.ended", subject=str(person.id)))
    erasure = await row_once_unsealed(committed, receipt["id"])
    for holder in holders.values():
        assert [order.user_id for order in holder.erased] == [person.id] * 2
        assert len(set(holder.erased)) == 1
    assert erasure.finished_at is not None
    assert erasure.finished_at.isoformat().startswith(receipt["finished_at"][:19])
    assert await rows_with(committed, str(person.id)) == []


async def test_a_receipt_that_never_was_is_not_found(lasting: httpx.AsyncClient) -> None:
    assert (await lasting.get(f"/auth/erasures/{uuid4()}")).status_code == 404
    assert (await lasting.get("/auth/erasures/1")).status_code == 422


async def test_an_operator_erases_who_is_banned_and_the_ban_outlasts_the_account(
    lasting: httpx.AsyncClient, committed: Sessions, told: Settings, holders: Holders
) -> None:
    banned, operator = await sign_in(lasting), await sign_in(lasting, role="admin")
    async with committed.begin() as session:
        await session.exec(update(User).where(col(User.id) == banned.id).values(status="banned"))
    token = await service_token(lasting, told, "admin", "auth")
    headers = {"Authorization": f"Bearer {token}", ACTOR_HEADER: operator.headers["Authorization"].split()[1]}
    erased = await lasting.delete(f"/internal/users/{banned.id}", headers=headers)
    assert (erased.status_code, erased.json()["state"]) == (202, "done")
    assert (await lasting.delete(f"/internal/users/{banned.id}", headers=headers)).status_code == 404
    own = await lasting.delete(f"/internal/users/{operator.id}", headers=headers)
    assert (own.status_code, own.json()["code"]) == (409, "own_account")
    for _ in range(2):
        reply = await lasting.post("/auth/dev/login", json={"email": banned.email})
        assert (reply.status_code, reply.json()["code"]) == (403, "account_banned")
    assert await rows_with(committed, str(banned.id), banned.email) == []
    async with committed() as session:
        entries = select(Audit).where(Audit.actor == str(operator.id), Audit.action == "user.erased")
        assert len((await session.exec(entries)).all()) == 1


async def test_an_admin_who_has_just_been_demoted_erases_nobody(
    lasting: httpx.AsyncClient, committed: Sessions, told: Settings, holders: Holders
) -> None:
    person, operator = await sign_in(lasting), await sign_in(lasting, role="admin")
    async with committed.begin() as session:  # unknown to verifiers, as a change is for a second
        await session.exec(update(User).where(col(User.id) == operator.id).values(role="player"))
    token = await service_token(lasting, told, "admin", "auth")
    headers = {"Authorization": f"Bearer {token}", ACTOR_HEADER: operator.headers["Authorization"].split()[1]}
    refused = await lasting.delete(f"/internal/users/{person.id}", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_longer_admin")
    assert (await lasting.get("/auth/me", headers=person.headers)).status_code == 200


async def test_who_was_not_banned_may_start_anew_as_somebody_else(lasting: httpx.AsyncClient) -> None:
    person = await sign_in(lasting)
    await erase(lasting, person)
    again = await sign_in(lasting, email=person.email)
    assert again.id != person.id
    await erase(lasting, again)


async def test_the_audit_keeps_what_happened_under_the_pseudonym(
    lasting: httpx.AsyncClient, committed: Sessions, holders: Holders
) -> None:
    person, operator, other = await sign_in(lasting, role="admin"), uuid4(), uuid4()
    entries = [
        Audit(actor=str(operator), action="user.changed", subject=str(person.id), detail={"reason": person.email}),
        Audit(actor=str(person.id), action="user.changed", subject=str(other), detail={"reason": "rude"}),
        Audit(actor=str(person.id), action="key.made", subject="s", detail={"by": {"id": str(person.id)}}),
    ]
    ids = [entry.id for entry in entries]
    async with committed.begin() as session:
        session.add_all(entries)
    await erase(lasting, person)
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
