"""Fixtures: real Postgres and Redis, a stand-in for auth, and ways to run an app inside a test."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Self
from uuid import UUID

import httpx
import pytest
import uvicorn
from alembic import command
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Form
from jose import jwk, jwt
from redis.asyncio import Redis
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import AsyncConnection, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.types import ASGIApp, Receive, Scope, Send

from common.bootstrap import bootstrap
from common.db import Sessions, alembic_config, uuid7
from common.identity import PLAYER_AUDIENCE
from common.public_keys import ALGORITHM
from common.revocations import RevocationPage, Revocations
from devstack.postgres import run_postgres
from devstack.redis import run_redis
from standins.server import serve

ISSUER = "dugout"
KEY_ID = "test-key"
ROLES = ("auth", "coach", "rag", "worker", "admin")


class Database:
    """A throw-away Postgres with the roles and schemas of all services; schemas are migrated on first use."""

    def __init__(self, admin_url: str, passwords: Mapping[str, str]) -> None:
        self.admin_url = admin_url
        self._passwords = passwords
        self._migrated: set[str] = set()

    def url(self, role: str) -> str:
        """SQLAlchemy address for a role, `coach` (rows only) or `coach_owner`."""
        host = self.admin_url.rpartition("@")[2]
        return f"postgresql+asyncpg://{role}:{self._passwords[role]}@{host}"

    def migrated(self, service: str) -> str:
        """Address for the runtime role of `service`, its schema at the newest version."""
        if service not in self._migrated:
            config = alembic_config(service)
            config.set_main_option("sqlalchemy.url", self.url(f"{service}_owner"))
            command.upgrade(config, "head")
            self._migrated.add(service)
        return self.url(service)

    def assert_migrations_match_models(self, service: str) -> None:
        """Fail when `service`'s models say something that its migrations do not make."""
        self.migrated(service)
        config = alembic_config(service)
        config.set_main_option("sqlalchemy.url", self.url(f"{service}_owner"))
        command.check(config)


class Tokens:
    """Mints access and service tokens that every service of a test accepts."""

    def __init__(self) -> None:
        self.private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        # Parsed once: that takes longer than to sign.
        self._key = jwk.construct(self.pem, ALGORITHM)
        self._public_jwk = {**self._key.public_key().to_dict(), "kid": KEY_ID, "use": "sig"}

    def public_jwk(self) -> dict[str, Any]:
        """The public half, as auth publishes it."""
        return self._public_jwk

    def player(self, user_id: UUID | None = None, **claims: Any) -> str:
        """An access token; `claims` replace the defaults (`role="admin"`, `plan="premium"`, `exp=…`)."""
        return self.sign(
            {"aud": PLAYER_AUDIENCE, "typ": "access", "sub": str(user_id or uuid7()), "role": "player", "plan": "free"}
            | {"sid": str(uuid7()), "epoch": 0}
            | claims
        )

    def service(self, client_id: str, audience: str, scope: str) -> str:
        """A client-credentials token."""
        return self.sign({"aud": audience, "typ": "service", "sub": client_id, "scope": scope})

    def sign(self, claims: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> str:
        """Any claims, signed with the test key."""
        now = int(time.time())
        defaults = {"iss": ISSUER, "iat": now, "nbf": now, "exp": now + 600, "jti": str(uuid7())}
        signed: str = jwt.encode({**defaults, **claims}, self._key, ALGORITHM, {"kid": KEY_ID, **(headers or {})})
        return signed

    def headers(self, **claims: Any) -> dict[str, str]:
        """`Authorization` of a player (or `role="admin"`)."""
        return {"Authorization": f"Bearer {self.player(**claims)}"}

    def service_headers(self, client_id: str, audience: str, scope: str) -> dict[str, str]:
        """`Authorization` of a service."""
        return {"Authorization": f"Bearer {self.service(client_id, audience, scope)}"}


class RevocationList:
    """What a stand-in for auth has revoked; `add` may be called from any thread."""

    def __init__(self) -> None:
        self._revocations: list[dict[str, Any]] = []

    def add(self, token: str, epoch: int = 2**31 - 1) -> None:
        """Void the tokens of the session of `token` below `epoch`."""
        self._revocations.append({"sid": jwt.get_unverified_claims(token)["sid"], "epoch": epoch})

    def since(self, cursor: str | None) -> dict[str, Any]:
        """A page, as auth gives it."""
        known = self._revocations[int(cursor or 0) :]
        return {"revocations": known, "next": str(int(cursor or 0) + len(known))}


def nothing_revoked() -> Revocations:
    """For a `Verifier` whose test is about something else."""

    async def read(since: str | None) -> RevocationPage:
        return RevocationPage(revocations=[], next="0")

    return Revocations(read)


def auth_standin(tokens: Tokens, revoked: RevocationList | None = None) -> FastAPI:
    """What other services need of auth: its public keys, a token for any client, and what is revoked."""
    app = FastAPI()
    revoked = revoked or RevocationList()

    @app.get("/.well-known/jwks.json")
    async def jwks() -> dict[str, Any]:
        return {"keys": [tokens.public_jwk()]}

    @app.post("/internal/token")
    async def token(client_id: str = Form(), audience: str = Form(), scope: str = Form()) -> dict[str, Any]:
        signed = tokens.service(client_id, audience, scope)
        return {"access_token": signed, "token_type": "Bearer", "expires_in": 600, "scope": scope}

    @app.get("/internal/revocations")
    async def revocations(since: str | None = None) -> dict[str, Any]:
        return revoked.since(since)

    return app


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One Postgres for the whole run."""
    passwords = {role: f"{role}-test-password" for service in ROLES for role in (service, f"{service}_owner")}
    with run_postgres(tmp_path_factory.mktemp("postgres"), throwaway=True) as server:
        asyncio.run(bootstrap(server.url(), passwords))
        yield Database(server.url(), passwords)


@pytest.fixture(scope="session")
def redis_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of the three Redis instances by kind: cache, state, broker."""
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(run_redis(tmp_path_factory.mktemp(kind), kind=kind, throwaway=True)).url
            for kind in ("cache", "state", "broker")
        }


@pytest.fixture
async def clean_redis(redis_urls: dict[str, str]) -> None:
    """All three Redis instances, emptied before the test."""
    for url in redis_urls.values():
        async with Redis.from_url(url) as client:
            await client.flushall()


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    """The signing key of this run."""
    return Tokens()


@pytest.fixture(scope="session")
def revoked() -> RevocationList:
    """What the stand-in for auth says is revoked."""
    return RevocationList()


@pytest.fixture(scope="session")
def auth_url(tokens: Tokens, revoked: RevocationList) -> Iterator[str]:
    """Base URL of the stand-in for auth."""
    with serve(auth_standin(tokens, revoked)) as server:
        yield server.url


class _OneByOne(async_sessionmaker[AsyncSession]):
    """Sessions over one connection: who comes while another is open, such as a loop of the app, waits for its end."""

    def __init__(self, connection: AsyncConnection) -> None:
        turn = asyncio.Lock()

        class Session(AsyncSession):
            async def __aenter__(self) -> Self:
                await turn.acquire()
                return self

            async def __aexit__(self, *error: Any) -> None:
                await super().__aexit__(*error)
                turn.release()

        super().__init__(connection, class_=Session, expire_on_commit=False, join_transaction_mode="create_savepoint")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:  # type: ignore[override] # by way of the session's own block
        async with self() as session, session.begin():
            yield session


@asynccontextmanager
async def rolled_back(database_url: str) -> AsyncIterator[Sessions]:
    """Sessions in one transaction, rolled back at the end; they share its connection, so never open one in another."""
    engine = create_async_engine(database_url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        transaction = await connection.begin()
        yield _OneByOne(connection)
        await transaction.rollback()
    await engine.dispose()


@asynccontextmanager
async def running(app: FastAPI, *, sessions: Sessions | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app` in this process, its lifespan running. Replies arrive whole; for streams use `listening`."""
    if sessions is not None:
        app.state.sessions = sessions
    async with app.router.lifespan_context(app) as state:
        transport = httpx.ASGITransport(_with_state(app, state or {}))
        async with httpx.AsyncClient(transport=transport, base_url="http://service.test") as client:
            yield client


def _with_state(app: ASGIApp, state: Mapping[str, Any]) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = dict(state)
        await app(scope, receive, send)

    return wrapped


class _Server(uvicorn.Server):
    """Leaves the process's signals alone and says when it listens, or never will."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # would end the event loop, and with it every later test
            raise RuntimeError("the app did not start; its log says why") from None
        finally:
            self.listening.set()


@asynccontextmanager
async def listening(app: ASGIApp, *, sessions: Sessions | None = None) -> AsyncIterator[str]:
    """Base URL of `app` served on a real socket by this event loop."""
    if sessions is not None and isinstance(app, FastAPI):
        app.state.sessions = sessions
    server = _Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on", proxy_headers=False))
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.wait_for(server.listening.wait(), 20)
        if server.started:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
