"""Auth's app on a real Postgres, and people who sign in to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from pydantic import SecretStr
from sqlmodel import delete

from auth.app import build
from auth.models import Erasure
from auth.settings import Settings
from common.db import Sessions, create_engine, session_factory
from common.testing import Database, rolled_back, running
from standins.google import CLIENT_ID, GoogleStandin, run_google

from .holders import HolderStandin, run_holders

Holders = dict[str, HolderStandin]
Login = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="session")
def google_server() -> Iterator[GoogleStandin]:
    """Serves certificates as Google does, and signs ID tokens with them."""
    with run_google() as google:
        yield google


@pytest.fixture
def google(google_server: GoogleStandin) -> GoogleStandin:
    """Google, with nothing asked and nothing scripted yet."""
    google_server.clear()
    return google_server


@pytest.fixture(scope="session")
def settings(database: Database, google_server: GoogleStandin) -> Settings:
    return Settings(
        env="development",
        database_url=SecretStr(database.migrated("auth")),
        key_encryption_key=SecretStr(Fernet.generate_key().decode()),
        erasure_key=SecretStr("erasure-key-of-the-tests"),
        service_secrets={
            name: SecretStr(f"{name}-secret-of-the-tests") for name in ("gateway", "coach", "rag", "worker", "admin")
        },
        google_client_ids=["another-client", CLIENT_ID],
        google_certs_url=google_server.certs_url,
        google_timeout_seconds=1,
        admin_emails=["First.Admin@example.com"],
    )


@pytest.fixture(scope="session")
async def committed(settings: Settings) -> AsyncIterator[Sessions]:
    """Sessions whose work stays, over connections of their own; the first start has made the signing key."""
    engine = create_engine(settings.database_url.get_secret_value(), application="tests", pool_size=5)
    async with running(build(settings)):
        pass
    yield session_factory(engine)
    await engine.dispose()


@pytest.fixture
async def sessions(settings: Settings, committed: Sessions) -> AsyncIterator[Sessions]:
    """Sessions of the app behind `client`; nothing of them stays."""
    async with rolled_back(settings.database_url.get_secret_value()) as sessions:
        yield sessions


@pytest.fixture(scope="session")
def app(settings: Settings) -> FastAPI:
    """Built once: each start of it, one per test, is a fresh process as far as its state goes."""
    return build(settings)


@pytest.fixture
async def client(app: FastAPI, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    # Its requests share one connection, which nothing else may use meanwhile.
    for name in ("common.revocations.POLL_SECONDS", "auth.keys.REREAD_SECONDS", "auth.erasures.POLL_SECONDS"):
        monkeypatch.setattr(name, 3600)
    async with running(app, sessions=sessions) as client:
        yield client


@pytest.fixture
def log_in(client: httpx.AsyncClient) -> Login:
    """Signs in by the development login: `await log_in("a@example.com", role="admin")`."""

    async def log_in(email: str = "player@example.com", **body: Any) -> dict[str, Any]:
        response = await client.post("/auth/dev/login", json={"email": email, **body})
        assert response.status_code == 200, response.text
        signed_in: dict[str, Any] = response.json()
        return signed_in

    return log_in


@pytest.fixture(scope="session")
def served_holders() -> Iterator[Holders]:
    """Coach, worker and admin, as far as they hold something of persons."""
    with run_holders() as holders:
        yield holders


@pytest.fixture
def holders(served_holders: Holders) -> Holders:
    """The same, with nothing ordered and nothing scripted yet."""
    for holder in served_holders.values():
        holder.clear()
    return served_holders


@pytest.fixture
def told(settings: Settings, holders: Holders) -> Settings:
    """Settings that name the holders, and repeat an erasure after a moment."""
    urls = {f"{name}_url": holder.server.url for name, holder in holders.items()}
    return settings.model_copy(update={**urls, "erasure_repeat_seconds": [0.5]})


@pytest.fixture
async def lasting(told: Settings, committed: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    """An auth whose work stays, since an erasure takes several transactions; of other tests none is left."""
    async with committed.begin() as session:
        await session.exec(delete(Erasure))
    async with running(build(told)) as client:
        yield client
