"""Signing keys: one first key, encrypted, published, and several at once when they rotate."""

import asyncio

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlmodel import delete, select

from auth.keys import open_key_ring
from auth.models import SigningKey
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.db import Sessions, create_engine, session_factory
from common.identity import Verifier


@pytest.fixture
def encryption(settings: Settings) -> Fernet:
    return Fernet(settings.key_encryption_key.get_secret_value())


async def rotate(sessions: Sessions, encryption: Fernet) -> str:
    """What another process does: retire the active key and activate a new one."""
    async with sessions.begin() as session:
        retired = (await session.exec(select(SigningKey).where(SigningKey.state == "active"))).one()
        retired.state = "retired"
    return (await (await open_key_ring(sessions, encryption)).signer()).kid


async def test_the_published_set_holds_public_keys_only(client: httpx.AsyncClient) -> None:
    response = await client.get("/.well-known/jwks.json")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=300"
    (key,) = response.json()["keys"]
    assert key.keys() == {"kty", "kid", "use", "alg", "n", "e"}
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")


async def test_two_processes_starting_together_make_one_key(committed: Sessions, encryption: Fernet) -> None:
    async with committed.begin() as session:
        await session.exec(delete(SigningKey))
    rings = await asyncio.gather(*(open_key_ring(committed, encryption) for _ in range(3)))
    assert len({(await ring.signer()).kid for ring in rings}) == 1
    async with committed() as session:
        assert len((await session.exec(select(SigningKey))).all()) == 1


async def test_a_restart_keeps_the_key(sessions: Sessions, encryption: Fernet) -> None:
    kids = set()
    for _ in range(2):
        ring = await open_key_ring(sessions, encryption)
        kids.add((await ring.signer()).kid)
    assert len(kids) == 1


async def test_the_private_key_is_unreadable_without_the_encryption_key(sessions: Sessions, encryption: Fernet) -> None:
    async with sessions() as session:
        stored = (await session.exec(select(SigningKey))).one()
    assert b"PRIVATE KEY" not in stored.private_key
    assert b"PRIVATE KEY" in encryption.decrypt(stored.private_key)
    with pytest.raises(RuntimeError, match="DUGOUT_KEY_ENCRYPTION_KEY"):
        await open_key_ring(sessions, Fernet(Fernet.generate_key()))


async def test_a_rotation_made_elsewhere_is_picked_up_and_old_tokens_hold(
    sessions: Sessions, encryption: Fernet
) -> None:
    ring = await open_key_ring(sessions, encryption, reread_seconds=0)
    issuer = TokenIssuer(ring, issuer="dugout", lifetime_seconds=600)
    old_kid = (await ring.signer()).kid
    old = await issuer.for_service("coach", "rag", "rag:answer")

    new_kid = await rotate(sessions, encryption)
    assert (await ring.signer()).kid == new_kid
    assert [key["kid"] for key in await ring.published()] == [old_kid, new_kid]
    new = await issuer.for_service("coach", "rag", "rag:answer")
    verifier = Verifier(fetch_keys=ring.published, issuer="dugout", audience="rag")
    for token in (old, new):
        assert (await verifier.verify(token.access_token)).sub == "coach"


async def test_keys_in_memory_outlast_a_database_that_is_away(
    settings: Settings, committed: Sessions, encryption: Fernet
) -> None:
    engine = create_engine(settings.database_url.get_secret_value(), application="tests", pool_size=1)
    away = create_engine("postgresql+asyncpg://auth@127.0.0.1:1/postgres", application="tests", pool_size=1)
    sessions = session_factory(engine)
    ring = await open_key_ring(sessions, encryption, reread_seconds=0)
    known = await ring.published()
    sessions.configure(bind=away)
    assert await ring.published() == known
    assert (await ring.signer()).kid == known[0]["kid"]
    await engine.dispose()
