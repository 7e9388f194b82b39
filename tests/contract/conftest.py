"""Every service as production builds it, running in this process, and the gateway on a socket before one of them."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from pydantic import SecretStr
from sqlmodel import col, delete

import admin.app
import admin.settings
import auth.app
import auth.settings
import coach.app
import coach.settings
import gateway.app
import gateway.settings
import rag.app
import rag.settings
import worker.app
import worker.settings
from auth.models import SigningKey, User
from common.db import create_engine, session_factory
from common.testing import KEY_ID, Database, Tokens, listening, running

PLAYER = uuid4()
KEY = Fernet.generate_key()
MANY = (1_000_000, 1)
BOTH = {"free": MANY, "premium": MANY}
UNLIMITED = gateway.settings.Limits.model_validate({"player": BOTH, "ops": MANY, "failed_tokens": MANY})


def scopes_of(audience: str) -> str:
    """All that any service may do at `audience`."""
    clients = json.loads(files("auth").joinpath("clients.json").read_text())
    scopes = {scope for callees in clients.values() for scope in callees.get(audience, ())}
    return " ".join(sorted(scopes | {f"{audience}:privacy"}))  # which auth gives to itself alone


@pytest.fixture(scope="module")
def settings(redis_urls: dict[str, str], auth_url: str) -> dict[str, Any]:
    """What any service may ask for but its database; of each other they know only auth's stand-in."""
    neighbours = {f"{service}_url": auth_url for service in ("auth", "coach", "rag", "worker", "admin")}
    stores = {f"{kind}_redis_url": SecretStr(url) for kind, url in redis_urls.items()}
    return {"env": "development", "client_secret": SecretStr("secret-of-the-tests"), **neighbours, **stores}


@pytest.fixture(scope="module")
def told_to_auth(settings: dict[str, Any]) -> dict[str, Any]:
    """Auth has secrets of its own."""
    return {
        **settings,
        "key_encryption_key": SecretStr(KEY.decode()),
        "erasure_key": SecretStr("erasure-key-of-the-tests"),
    }


@pytest.fixture(scope="module")
def apps(database: Database, settings: dict[str, Any], told_to_auth: dict[str, Any]) -> dict[str, FastAPI]:
    """The services by name, not yet running."""

    def told(service: str) -> dict[str, Any]:
        known = told_to_auth if service == "auth" else settings
        return {**known, "database_url": SecretStr(database.migrated(service))}

    return {
        "auth": auth.app.build(auth.settings.Settings(**told("auth"))),
        "coach": coach.app.build(coach.settings.Settings(**told("coach"))),
        "rag": rag.app.build(rag.settings.Settings(**told("rag"))),
        "worker": worker.app.build(worker.settings.Settings(**told("worker"))),
        "admin": admin.app.build(admin.settings.Settings(**told("admin"))),
    }


@asynccontextmanager
async def _known_to_auth(tokens: Tokens, database_url: str) -> AsyncIterator[None]:
    """For the time of the block the tests' key is auth's only one, and PLAYER has an account."""
    engine = create_engine(database_url, application="tests", pool_size=1)
    sessions = session_factory(engine)
    sealed = Fernet(KEY).encrypt(tokens.pem.encode())
    key = SigningKey(kid=KEY_ID, public_jwk=tokens.public_jwk(), private_key=sealed, state="active")
    async with sessions.begin() as session:
        await session.exec(delete(SigningKey))
        session.add_all([key, User(id=PLAYER, issuer="tests", subject=str(PLAYER))])
    yield
    async with sessions.begin() as session:
        await session.exec(delete(SigningKey))
        await session.exec(delete(User).where(col(User.id) == PLAYER))
    await engine.dispose()


@pytest.fixture(scope="module")
async def doors(
    apps: dict[str, FastAPI], settings: dict[str, Any], database: Database, tokens: Tokens
) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """A client of each service, reached directly, and of the gateway."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_known_to_auth(tokens, database.migrated("auth")))
        clients = {name: await stack.enter_async_context(running(app)) for name, app in apps.items()}
        door = gateway.app.build(gateway.settings.Settings(**settings, limits=UNLIMITED))
        url = await stack.enter_async_context(listening(door))
        clients["gateway"] = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        yield clients
