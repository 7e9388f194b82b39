"""Coach's app between a scripted rag, a scripted model and a real Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from coach.app import build
from coach.games import GameSettings, put_game
from coach.prompts import Prompts
from coach.settings import Settings
from common.db import Sessions, create_engine, session_factory, uuid7
from common.testing import Database, Tokens, running
from standins.openai import OpenAIStandin, run_openai

from .rag_standin import RagStandin, run_rag

SetGame = Callable[..., Awaitable[str]]
MakeSettings = Callable[..., Settings]

GAME = {
    "titles": {"en": "The Battle for Wesnoth", "ko": "웨스노스 전투"},
    "locales": ["ko", "en"],
    "patch": "1.16.9",
    "parameters": {"temperature": 0.3, "max_tokens": 700},
    "template": "wesnoth",
    "context": {
        "shared": {"side": ["attack", "defence"]},
        "private": {"nickname": {"max_length": 10}},
    },
}


@pytest.fixture(scope="session")
def rag() -> Iterator[RagStandin]:
    """A scripted rag."""
    with run_rag() as rag:
        yield rag


@pytest.fixture(scope="session")
def openai() -> Iterator[OpenAIStandin]:
    """A scripted model."""
    with run_openai() as openai:
        yield openai


@pytest.fixture(autouse=True)
def nothing_scripted(rag: RagStandin, openai: OpenAIStandin) -> None:
    """Nothing asked and nothing scripted yet."""
    rag.clear()
    openai.clear()


@pytest.fixture(scope="session")
def database_url(database: Database) -> str:
    """Address of a Postgres whose schema `coach` is migrated."""
    return database.migrated("coach")


@pytest.fixture(scope="session")
async def sessions(database_url: str) -> AsyncIterator[Sessions]:
    """Sessions whose work stays: a question takes several transactions. Tests have games and users of their own."""
    engine = create_engine(database_url, application="tests", pool_size=5)
    yield session_factory(engine)
    await engine.dispose()


@pytest.fixture(scope="session")
def settings(database_url: str, auth_url: str, rag: RagStandin, openai: OpenAIStandin) -> MakeSettings:
    """Settings of a coach between the stand-ins, with a model; arguments change some."""

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "env": "development",
            "auth_url": auth_url,
            "rag_url": rag.url,
            "database_url": SecretStr(database_url),
            "client_secret": SecretStr("secret-of-the-tests"),
            "openai_api_key": SecretStr("key-of-the-tests"),
            "openai_base_url": openai.base_url,
            "model_deadline": 5.0,
        }
        return Settings(**(values | changes))

    return make


@pytest.fixture(scope="session")
async def client(settings: MakeSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A coach with a model."""
    async with running(build(settings())) as client:
        yield client


@pytest.fixture(scope="session")
async def keyless(settings: MakeSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A coach without a key."""
    async with running(build(settings(openai_api_key=None, openai_base_url=None))) as client:
        yield client


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    """All prompt files."""
    return Prompts()


@pytest.fixture(scope="session")
def set_game(sessions: Sessions, prompts: Prompts) -> SetGame:
    """Sets a game up under a slug of its own; arguments change some of its settings."""

    async def set_up(**changes: Any) -> str:
        slug = f"game-{uuid7().hex}"
        async with sessions.begin() as session:
            await put_game(session, slug, GameSettings(slug=slug, **(GAME | changes)), prompts)
        return slug

    return set_up


@pytest.fixture
async def game(set_game: SetGame) -> str:
    """A game with two languages, a shared and a private context field."""
    return await set_game()


@pytest.fixture
def player(tokens: Tokens) -> dict[str, str]:
    """A signed-in player nobody else is."""
    return tokens.headers()
