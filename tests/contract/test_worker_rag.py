"""The worker's clients against the apps of rag and coach: what is sent is taken, what comes back is read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from coach.app import build as build_coach
from coach.settings import Settings as CoachSettings
from common.identity import ACTOR_HEADER
from common.testing import Database, Tokens, rolled_back, running
from rag.app import build as build_rag
from rag.settings import Settings as RagSettings
from standins.openai import run_openai
from worker.clients import CoachClient, Completion, RagClient
from worker.index import summary_document, text_documents, transcript_document
from worker.models import Kind, Upload
from worker.subtitles import Line
from worker.summarise import Digest, Moment

LINES = [Line(1_000, 4_000, "궁수는 멀리서 강합니다."), Line(4_000, 9_000, "가까이에서는 약합니다.")]
GAME = {"slug": "contract", "titles": {"ko": "계약"}, "locales": ["ko"], "patch": "1"}


@pytest.fixture(scope="module")
def database_urls(database: Database) -> dict[str, SecretStr]:
    return {name: SecretStr(database.migrated(name)) for name in ("rag", "coach")}


@pytest.fixture
async def rag(
    database_urls: dict[str, SecretStr], redis_urls: dict[str, str], clean_redis: None, auth_url: str, tokens: Tokens
) -> AsyncIterator[RagClient]:
    """The worker's client of an empty rag, signed in as the worker."""
    settings = RagSettings(
        env="development",
        auth_url=auth_url,
        database_url=database_urls["rag"],
        cache_redis_url=SecretStr(redis_urls["cache"]),
        client_secret=SecretStr("secret-of-the-tests"),
    )
    address = database_urls["rag"].get_secret_value()
    async with rolled_back(address) as sessions, running(build_rag(settings), sessions=sessions) as http:
        http.headers.update(tokens.service_headers("worker", "rag", "rag:documents"))
        yield RagClient(http)


def upload(kind: Kind, filename: str) -> Upload:
    return Upload(
        fingerprint=uuid4().hex,
        kind=kind,
        filename=filename,
        game="contract",
        locale="ko",
        url="https://video.test/watch?v=1",
        sha256="0" * 64,
        size=1,
        content=b"",
        uploaded_by=uuid4(),
        created_at=datetime(2026, 10, 1, tzinfo=UTC),
    )


async def test_rag_takes_a_text_and_says_what_became_of_it(rag: RagClient) -> None:
    states = []
    for text in ("# 궁수\n\n약하다.", "# 궁수\n\n약하다.", "# 궁수\n\n강하다."):
        (indexed,) = await rag.publish("contract", text_documents(upload("markdown", "guide.md"), text))
        states.append((indexed.key, indexed.state, indexed.chunks))
    assert states == [("file:ko:guide.md", state, 1) for state in ("created", "unchanged", "replaced")]


async def test_rag_takes_a_transcript_with_its_summary(rag: RagClient) -> None:
    track = upload("subtitle", "guide.srt")
    extracted = Digest(
        locale="ko", method="extracted", title="강좌", text="", moments=[Moment(start_ms=1_000, text=LINES[0].text)]
    )
    indexed = await rag.publish("contract", [transcript_document(track, LINES), summary_document(track, extracted)])
    assert [(document.key, document.state) for document in indexed] == [
        ("subtitle:ko:guide.srt", "created"),
        ("summary:ko:ko:guide.srt", "created"),
    ]


@asynccontextmanager
async def coach_of(settings: CoachSettings, tokens: Tokens) -> AsyncIterator[CoachClient]:
    async with running(build_coach(settings)) as http:
        admin = {ACTOR_HEADER: tokens.player(role="admin")}
        games = tokens.service_headers("admin", "coach", "coach:games")
        reply: httpx.Response = await http.put("/internal/games/contract", json=GAME, headers=games | admin)
        reply.raise_for_status()
        http.headers.update(tokens.service_headers("worker", "coach", "coach:complete"))
        yield CoachClient(http)


@pytest.fixture
def coach_settings(database_urls: dict[str, SecretStr], auth_url: str) -> CoachSettings:
    return CoachSettings(
        env="development",
        auth_url=auth_url,
        database_url=database_urls["coach"],
        client_secret=SecretStr("secret-of-the-tests"),
    )


async def complete(coach: CoachClient, key: str) -> Completion | None:
    return await coach.complete(
        key=key, game="contract", locale="ko", system="요약하라", prompt="[0:01] 궁수는 강합니다.", max_tokens=100
    )


async def test_coach_without_a_model_says_so(coach_settings: CoachSettings, tokens: Tokens) -> None:
    async with coach_of(coach_settings, tokens) as coach:
        assert await complete(coach, uuid4().hex) is None


async def test_a_completion_is_made_once_per_key(coach_settings: CoachSettings, tokens: Tokens) -> None:
    with run_openai() as openai:
        openai.say("궁수는 강하다고 합니다.")
        model = {"openai_api_key": SecretStr("key-of-the-tests"), "openai_base_url": openai.base_url}
        key = uuid4().hex
        async with coach_of(coach_settings.model_copy(update=model), tokens) as coach:
            replies = [await complete(coach, key) for _ in range(2)]
        assert [reply.text for reply in replies if reply] == ["궁수는 강하다고 합니다."] * 2
        assert len(openai.chat_calls) == 1
