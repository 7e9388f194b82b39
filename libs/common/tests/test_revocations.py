"""Which revoked tokens are refused, how soon, and what holds while auth cannot be asked."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from common import revocations
from common.errors import UnavailableError
from common.identity import Verifier
from common.revocations import RevocationPage, Revocations, Revoked, RevokedError
from common.testing import ISSUER, RevocationList, Tokens, running

ONE, OTHER = str(uuid4()), str(uuid4())


class Source:
    """Auth's list as a test wants it: readable, away, silent or broken."""

    def __init__(self) -> None:
        self.revoked: list[Revoked] = []
        self.cursors: list[str | None] = []
        self.failure: Exception | None = None
        self.is_silent = False
        self.more = 0
        self.fails_at = 0

    async def read(self, since: str | None) -> RevocationPage:
        self.cursors.append(since)
        if len(self.cursors) == self.fails_at:
            raise UnavailableError
        self.more -= 1
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure
        return RevocationPage(revocations=self.revoked, next=f"after-{len(self.cursors)}", more=self.more >= 0)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def listed(source: Source) -> Revocations:
    return Revocations(source.read)


@pytest.fixture
def door(tokens: Tokens, listed: Revocations) -> Verifier:
    async def fetch() -> list[dict[str, Any]]:
        return [tokens.public_jwk()]

    return Verifier(fetch_keys=fetch, issuer=ISSUER, audience="notes", revocations=listed)


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "POLL_SECONDS", 0.01)


@pytest.fixture
async def client(quick_polls: None, app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A service that polls the stand-in for auth."""
    async with running(app) as client:
        yield client


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """What a poll brings about comes soon, or the test fails."""
    async with asyncio.timeout(5):
        while True:
            if await happened():
                return
            await asyncio.sleep(0.01)


async def test_a_token_in_use_is_refused_once_its_session_is_revoked(
    client: httpx.AsyncClient, tokens: Tokens, revoked: RevocationList
) -> None:
    mine, other = tokens.player(), tokens.player()
    headers = {"Authorization": f"Bearer {mine}", "Accept-Language": "ko"}
    assert (await client.get("/me", headers=headers)).status_code == 200
    revoked.add(mine)

    async def is_refused() -> bool:
        return (await client.get("/me", headers=headers)).status_code == 401

    await until(is_refused)
    refusal = await client.get("/me", headers=headers)
    assert (refusal.json()["code"], refusal.headers["www-authenticate"]) == ("token_revoked", "Bearer")
    assert "로그인" in refusal.json()["detail"]
    assert (await client.get("/me", headers={"Authorization": f"Bearer {other}"})).status_code == 200


async def test_a_new_epoch_voids_older_tokens_of_the_session_only(
    door: Verifier, source: Source, tokens: Tokens, listed: Revocations
) -> None:
    older, newer = (tokens.player(sid=ONE, epoch=epoch) for epoch in (3, 4))
    await door.verify(older)
    source.revoked = [Revoked(sid=ONE, epoch=4)]
    await listed.poll()
    with pytest.raises(RevokedError):
        await door.verify(older)
    await door.verify(newer)


async def test_a_lower_epoch_that_comes_later_gives_nothing_back(
    door: Verifier, source: Source, tokens: Tokens, listed: Revocations
) -> None:
    source.revoked = [Revoked(sid=ONE, epoch=9), Revoked(sid=ONE, epoch=2)]
    await listed.poll()
    with pytest.raises(RevokedError):
        await door.verify(tokens.player(sid=ONE, epoch=5))


async def test_each_reading_goes_on_where_the_last_one_ended(source: Source, listed: Revocations) -> None:
    await listed.poll()
    source.failure = UnavailableError()
    await listed.poll()
    source.failure = None
    await listed.poll()
    assert source.cursors == [None, "after-1", "after-1"]


async def test_a_list_of_several_pages_is_known_when_its_last_page_is(source: Source, listed: Revocations) -> None:
    source.more = 2
    source.revoked = [Revoked(sid=ONE, epoch=1)]
    await listed.poll()
    assert source.cursors == [None, "after-1", "after-2"]
    source.more, source.fails_at = 1, 5
    await listed.poll()
    await listed.poll()
    assert source.cursors[3:] == ["after-3", "after-4", "after-3"]  # nothing of a reading that broke off is left out
    assert listed.voids(ONE, 0)


async def test_while_nothing_could_ever_be_read_nobody_comes_in_but_the_first_reading_opens(
    door: Verifier, source: Source, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.failure = UnavailableError()
    for role in ("player", "admin") * 50:
        with pytest.raises(UnavailableError):
            await door.verify(tokens.player(role=role))
    assert len(source.cursors) < 10  # who waits outside is no flood at auth
    source.failure = None
    monkeypatch.setattr(revocations, "ASK_AGAIN_SECONDS", 0)
    await door.verify(tokens.player())


async def test_while_auth_is_away_players_go_on_and_staff_are_turned_away(
    door: Verifier, source: Source, tokens: Tokens, listed: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.revoked = [Revoked(sid=ONE, epoch=1)]
    await listed.poll()
    source.failure = UnavailableError()
    await door.verify(tokens.player(role="admin"))  # just read
    monkeypatch.setattr(revocations, "FRESH_SECONDS", 0.02)
    await asyncio.sleep(0.03)
    await door.verify(tokens.player())
    with pytest.raises(RevokedError):
        await door.verify(tokens.player(sid=ONE))
    for role in ("viewer", "admin"):
        with pytest.raises(UnavailableError):
            await door.verify(tokens.player(role=role))


async def test_staff_behind_an_old_list_cause_one_reading_together(
    door: Verifier, source: Source, tokens: Tokens, listed: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    await listed.poll()
    monkeypatch.setattr(revocations, "FRESH_SECONDS", 0.2)
    await asyncio.sleep(0.21)
    admin = tokens.player(role="admin")
    await asyncio.gather(*(door.verify(admin) for _ in range(50)))
    assert len(source.cursors) == 2


async def test_a_silent_auth_holds_nobody_up_for_long(
    source: Source, listed: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "POLL_TIMEOUT_SECONDS", 0.02)
    source.is_silent = True
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(listed.check_known(), 2)


def failed_polls() -> float:
    return REGISTRY.get_sample_value("revocation_polls_total", {"outcome": "failed"}) or 0


@pytest.mark.parametrize("failure", [UnavailableError(), ValueError("a bug")])
async def test_an_outage_is_counted_logged_once_and_survived(
    quick_polls: None, source: Source, listed: Revocations, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = failed_polls()
    async with listed.followed():
        source.failure = failure

        async def has_failed_often() -> bool:
            return failed_polls() - before >= 3

        await until(has_failed_often)
        source.failure, source.revoked = None, [Revoked(sid=ONE, epoch=1)]

        async def is_known() -> bool:
            return listed.voids(ONE, 0)

        await until(is_known)
    said = [record.message for record in caplog.records if record.name == "common.revocations"]
    assert said == ["cannot read the revoked tokens", "the revoked tokens can be read again"]


async def test_the_end_of_following_leaves_nothing_running(source: Source, listed: Revocations) -> None:
    before = asyncio.all_tasks()
    async with listed.followed():
        source.is_silent = True
        waiting = asyncio.create_task(listed.poll())
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() <= before


async def test_a_revocation_is_kept_as_long_as_its_tokens_may_live(
    source: Source, listed: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "RELEVANT_SECONDS", 0.05)
    source.revoked = [Revoked(sid=ONE, epoch=1)]
    await listed.poll()
    source.revoked = []
    await listed.poll()
    assert listed.voids(ONE, 0)
    await asyncio.sleep(0.06)
    source.revoked = [Revoked(sid=OTHER, epoch=1)]
    await listed.poll()
    assert (listed.voids(ONE, 0), listed.voids(OTHER, 0)) == (False, True)


async def test_who_wants_to_know_is_told_each_revocation_once(source: Source, listed: Revocations) -> None:
    told: list[Revoked] = []
    listed.on_revoked = told.append
    source.revoked = [Revoked(sid=ONE, epoch=1)]
    await listed.poll()
    await listed.poll()
    source.revoked = [*source.revoked, Revoked(sid=ONE, epoch=2)]
    await listed.poll()
    assert [(item.sid, item.epoch) for item in told] == [(ONE, 1), (ONE, 2)]


async def test_readiness_shows_an_old_list_but_does_not_decide_by_it(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.get("/readyz")).json()["status"] == "ready"
    monkeypatch.setattr(revocations, "FRESH_SECONDS", -1)
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert [name for name, check in response.json()["checks"].items() if not check["ok"]] == ["revocations_fresh"]


async def test_metrics_say_how_old_the_list_is(client: httpx.AsyncClient) -> None:
    exposition = (await client.get("/metrics")).text
    [age] = [line for line in exposition.splitlines() if line.startswith("revocation_list_age_seconds ")]
    assert 0 <= float(age.split()[1]) < 5
