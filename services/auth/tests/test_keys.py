"""Signing keys: one first key, encrypted, published, and several at once while they rotate."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlmodel import col, delete, select, update

from auth import key_rotation, keys
from auth.api import JWKS_MAX_AGE_SECONDS
from auth.keys import OLDEST_SECONDS, KeyRing, open_key_ring
from auth.models import Audit, KeyState, SigningKey
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.db import Sessions, create_engine, session_factory, uuid7
from common.errors import UnavailableError
from common.public_keys import KEY_FETCH_INTERVAL_SECONDS

ADMIN = uuid7()


@pytest.fixture
def encryption(settings: Settings) -> Fernet:
    return Fernet(settings.key_encryption_key.get_secret_value())


@pytest.fixture
async def shared(committed: Sessions, encryption: Fernet) -> AsyncIterator[Sessions]:
    """What several processes share: real connections; one key, and again one key for the tests after."""
    for turn in range(2):
        async with committed.begin() as session:
            await session.exec(delete(SigningKey))
        await open_key_ring(committed, encryption)
        if turn == 0:
            yield committed


async def rotate(sessions: Sessions, encryption: Fernet) -> None:
    async with sessions.begin() as session:
        await key_rotation.start(session, encryption, ADMIN)


async def age(sessions: Sessions, state: KeyState, by: timedelta) -> None:
    """Let the keys of a state have been in it for so much longer."""
    async with sessions.begin() as session:
        aged = update(SigningKey).where(col(SigningKey.state) == state)
        await session.exec(aged.values(state_since=col(SigningKey.state_since) - by))


async def states(sessions: Sessions) -> list[KeyState]:
    async with sessions() as session:
        return [key.state for key in (await key_rotation.read_keys(session)).keys]


async def activate(sessions: Sessions, encryption: Fernet, ring: KeyRing) -> str:
    """A whole rotation; the new key."""
    await rotate(sessions, encryption)
    await age(sessions, "next", key_rotation.PUBLISHED_BEFORE_USE)
    await ring.reread()
    return ring.signer.kid


async def audited(sessions: Sessions, kid: str) -> list[tuple[str, str]]:
    async with sessions() as session:
        rows = await session.exec(select(Audit).where(Audit.subject == kid).order_by(col(Audit.id)))
        return [(row.action, row.actor) for row in rows]


async def test_the_published_set_holds_public_keys_only(client: httpx.AsyncClient) -> None:
    response = await client.get("/.well-known/jwks.json")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=15"
    (key,) = response.json()["keys"]
    assert key.keys() == {"kty", "kid", "use", "alg", "n", "e"}
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")


async def test_two_processes_starting_together_make_one_key(shared: Sessions, encryption: Fernet) -> None:
    async with shared.begin() as session:
        await session.exec(delete(SigningKey))
    rings = await asyncio.gather(*(open_key_ring(shared, encryption) for _ in range(3)))
    assert len({ring.signer.kid for ring in rings}) == 1
    assert await states(shared) == ["active"]


async def test_a_restart_keeps_the_key(sessions: Sessions, encryption: Fernet) -> None:
    assert len({(await open_key_ring(sessions, encryption)).signer.kid for _ in range(2)}) == 1


async def test_the_private_key_is_unreadable_without_the_encryption_key(sessions: Sessions, encryption: Fernet) -> None:
    async with sessions() as session:
        stored = (await session.exec(select(SigningKey))).one()
    assert b"PRIVATE KEY" not in stored.private_key
    assert b"PRIVATE KEY" in encryption.decrypt(stored.private_key)
    with pytest.raises(RuntimeError, match="DUGOUT_KEY_ENCRYPTION_KEY"):
        await open_key_ring(sessions, Fernet(Fernet.generate_key()))


async def test_a_new_key_is_published_at_once_and_signs_a_minute_later(sessions: Sessions, encryption: Fernet) -> None:
    ring = await open_key_ring(sessions, encryption)
    old = ring.signer.kid
    await rotate(sessions, encryption)
    for _ in range(2):
        await ring.reread()
        assert (ring.signer.kid, len(await ring.published())) == (old, 2)
        await age(sessions, "next", key_rotation.PUBLISHED_BEFORE_USE / 2 - timedelta(seconds=5))
    assert await states(sessions) == ["active", "next"]

    await age(sessions, "next", timedelta(seconds=10))
    await ring.reread()
    new = ring.signer.kid
    assert new != old
    assert [key["kid"] for key in await ring.published()] == [old, new]
    assert await states(sessions) == ["retired", "active"]
    assert await audited(sessions, new) == [
        ("signing_key.published", str(ADMIN)),
        ("signing_key.active", "auth"),
    ]
    assert (await audited(sessions, old))[-1] == ("signing_key.retired", "auth")


async def test_a_retired_key_is_kept_until_its_last_token_has_expired(sessions: Sessions, encryption: Fernet) -> None:
    ring = await open_key_ring(sessions, encryption)
    old = ring.signer.kid
    token = TokenIssuer(ring, issuer="dugout", lifetime_seconds=3600).for_service("coach", "rag", "rag:answer")
    new = await activate(sessions, encryption, ring)
    longest = timedelta(seconds=token.expires_in + 30)  # the verifiers' leeway
    await age(sessions, "retired", longest)
    await ring.reread()
    assert old in [key["kid"] for key in await ring.published()]

    await age(sessions, "retired", key_rotation.KEPT_AFTER_USE - longest)
    await ring.reread()
    assert [key["kid"] for key in await ring.published()] == [new]
    assert (await audited(sessions, old))[-1] == ("signing_key.dropped", "auth")


async def test_processes_that_rotate_at_once_publish_one_key(shared: Sessions, encryption: Fernet) -> None:
    await asyncio.gather(*(rotate(shared, encryption) for _ in range(4)))
    assert await states(shared) == ["active", "next"]


async def test_processes_that_find_a_step_due_at_once_take_it_once_and_agree(
    shared: Sessions, encryption: Fernet
) -> None:
    rings = [await open_key_ring(shared, encryption) for _ in range(4)]
    old = rings[0].signer.kid
    await rotate(shared, encryption)
    await age(shared, "next", key_rotation.PUBLISHED_BEFORE_USE)
    await asyncio.gather(*(ring.reread() for ring in rings))
    (new,) = {ring.signer.kid for ring in rings}
    assert new != old
    assert [action for action, _ in await audited(shared, new)].count("signing_key.active") == 1


async def test_a_second_rotation_keeps_every_key_whose_tokens_may_live(sessions: Sessions, encryption: Fernet) -> None:
    ring = await open_key_ring(sessions, encryption)
    kids = [ring.signer.kid, *[await activate(sessions, encryption, ring) for _ in range(2)]]
    assert [key["kid"] for key in await ring.published()] == kids
    assert await states(sessions) == ["retired", "retired", "active"]


def test_a_new_key_is_in_every_answer_a_verifier_may_have_when_it_signs() -> None:
    latest = KEY_FETCH_INTERVAL_SECONDS + OLDEST_SECONDS + JWKS_MAX_AGE_SECONDS
    assert timedelta(seconds=latest) < key_rotation.PUBLISHED_BEFORE_USE


async def test_keys_in_memory_outlast_a_database_that_is_away_but_are_not_given_out_for_long(
    settings: Settings, committed: Sessions, encryption: Fernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(settings.database_url.get_secret_value(), application="tests", pool_size=1)
    away = create_engine("postgresql+asyncpg://auth@127.0.0.1:1/postgres", application="tests", pool_size=1)
    sessions = session_factory(engine)
    ring = await open_key_ring(sessions, encryption)
    known = await ring.published()
    sessions.configure(bind=away)
    await ring.reread()
    assert await ring.published() == known
    assert ring.signer.kid in [key["kid"] for key in known]
    monkeypatch.setattr(keys, "OLDEST_SECONDS", 0)
    with pytest.raises(UnavailableError):
        await ring.published()
    await engine.dispose()


async def test_a_key_encrypted_with_another_secret_leaves_those_that_are_known(
    sessions: Sessions, encryption: Fernet
) -> None:
    ring = await open_key_ring(sessions, encryption)
    old = ring.signer.kid
    await activate(sessions, Fernet(Fernet.generate_key()), ring)
    assert ring.signer.kid == old


@pytest.mark.parametrize("state", ["active", "next"])
async def test_a_key_in_use_cannot_be_dropped(sessions: Sessions, encryption: Fernet, state: KeyState) -> None:
    await open_key_ring(sessions, encryption)
    await rotate(sessions, encryption)
    async with sessions.begin() as session:
        key = next(key for key in (await key_rotation.read_keys(session)).keys if key.state == state)
        with pytest.raises(key_rotation.KeyInUseError):
            await key_rotation.drop(session, key.kid, ADMIN)
