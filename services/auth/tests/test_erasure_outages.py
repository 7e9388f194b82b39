"""Tests of erasures that something gets in the way of: a process dies, a service is slow, a key is another."""

import asyncio
import logging
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography.fernet import Fernet
from prometheus_client import REGISTRY
from sqlmodel import col, delete, update

from auth import erasures, users
from auth.erasures import Erasures
from auth.models import Erasure
from auth.settings import Settings
from common.db import Sessions
from common.errors import UnauthorizedError

from .conftest import Holders
from .erasing import (
    make_due,
    process,
    receipt_once_done,
    row_once_unsealed,
    rows_with,
    until,
)


@pytest.fixture(autouse=True)
async def nothing_ordered(committed: Sessions) -> None:
    """No erasure of another test is left."""
    async with committed.begin() as session:
        await session.exec(delete(Erasure))


@pytest.fixture
async def person_id(committed: Sessions) -> UUID:
    """An account."""
    async with committed.begin() as session:
        user = await users.find_or_create(session, issuer="tests", subject=uuid4().hex, email=None)
    return user.id


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
    lasting: httpx.AsyncClient,
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
        assert (await receipt_once_done(lasting, str(receipt.id)))["state"] == "done"


async def test_a_failure_that_nobody_foresaw_strands_no_later_erasure(
    told: Settings,
    committed: Sessions,
    holders: Holders,
    person_id: UUID,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erasures, "POLL_SECONDS", 0.01)
    async with committed.begin() as session:
        unreadable = Erasure(services={}, sealed=Fernet(told.key_encryption_key.get_secret_value()).encrypt(b"nobody"))
        session.add(unreadable)
    async with process(told, committed) as auth, auth.pursued():
        await until(lambda: "erasures cannot be carried out" in caplog.messages)
        holders["coach"].broken = True
        receipt = await auth.order(person_id)
        holders["coach"].broken = False
        await make_due(committed)
        await row_once_unsealed(committed, str(receipt.id))


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
