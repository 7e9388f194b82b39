"""Admin's clients against the apps of auth, coach, rag and the worker."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlmodel import delete

from admin.clients import AuthClient, CoachClient, RagClient, WorkerClient
from admin.models import DocumentUpload, GameSettings
from auth.app import build as build_auth
from auth.models import SigningKey
from auth.settings import Settings as AuthSettings
from coach.app import build as build_coach
from coach.settings import Settings as CoachSettings
from common.errors import NotFoundError
from common.http import ServiceAuth, UpstreamProblemError, http_client
from common.identity import User
from common.testing import Database, Tokens, listening, rolled_back, running
from rag.app import build as build_rag
from rag.settings import Settings as RagSettings
from worker.app import build as build_worker
from worker.settings import Settings as WorkerSettings

SECRET = SecretStr("secret-of-the-tests")
GAME: GameSettings = {"slug": "contract", "titles": {"ko": "계약"}, "locales": ["ko"], "patch": "1.18"}


@pytest.fixture(scope="module")
def database_urls(database: Database) -> dict[str, SecretStr]:
    return {name: SecretStr(database.migrated(name)) for name in ("auth", "coach", "rag", "worker")}


@pytest.fixture
def admin(tokens: Tokens) -> User:
    user_id = uuid4()
    token = tokens.player(user_id, role="admin")
    return User(id=user_id, role="admin", plan="free", session_id="s", token=token)


@pytest.fixture
async def coach(database_urls: dict[str, SecretStr], auth_url: str, tokens: Tokens) -> AsyncIterator[CoachClient]:
    settings = CoachSettings(
        env="development", auth_url=auth_url, database_url=database_urls["coach"], client_secret=SECRET
    )
    async with running(build_coach(settings)) as http:
        http.headers.update(tokens.service_headers("admin", "coach", "coach:read coach:games"))
        yield CoachClient(http)


@pytest.fixture
async def rag_http(
    database_urls: dict[str, SecretStr], redis_urls: dict[str, str], clean_redis: None, auth_url: str, tokens: Tokens
) -> AsyncIterator[httpx.AsyncClient]:
    settings = RagSettings(
        env="development",
        auth_url=auth_url,
        database_url=database_urls["rag"],
        cache_redis_url=SecretStr(redis_urls["cache"]),
    )
    address = database_urls["rag"].get_secret_value()
    async with rolled_back(address) as sessions, running(build_rag(settings), sessions=sessions) as http:
        http.headers.update(tokens.service_headers("admin", "rag", "rag:documents"))
        yield http


@pytest.fixture
async def worker(
    database_urls: dict[str, SecretStr], redis_urls: dict[str, str], auth_url: str, tokens: Tokens
) -> AsyncIterator[WorkerClient]:
    settings = WorkerSettings(
        env="development",
        auth_url=auth_url,
        database_url=database_urls["worker"],
        broker_redis_url=SecretStr(redis_urls["broker"]),
        client_secret=SECRET,
    )
    async with running(build_worker(settings)) as http:
        http.headers.update(tokens.service_headers("admin", "worker", "worker:ops"))
        yield WorkerClient(http, upload_seconds=10)


async def test_auth_grants_admin_a_token_and_counts_players(database_urls: dict[str, SecretStr]) -> None:
    settings = AuthSettings(
        env="development",
        database_url=database_urls["auth"],
        key_encryption_key=SecretStr(Fernet.generate_key().decode()),
        erasure_key=SecretStr("erasure-key-of-the-tests"),
        service_secrets={"admin": SECRET},
    )
    address = database_urls["auth"].get_secret_value()
    async with rolled_back(address) as sessions:
        async with sessions.begin() as session:  # one that auth's own tests left is encrypted with their key
            await session.exec(delete(SigningKey))
        async with listening(build_auth(settings), sessions=sessions) as url, http_client(url) as plain:
            granted = ServiceAuth(plain, client_id="admin", client_secret=SECRET, audience="auth", scope="auth:read")
            async with http_client(url, auth=granted) as signed:
                assert 0 <= (await AuthClient(signed).players()).premium_share <= 1


async def test_coach_keeps_games_and_counts_answers(coach: CoachClient, admin: User) -> None:
    stored = await coach.put_game("contract", GAME, admin)
    assert {name: stored[name] for name in GAME} == GAME
    assert stored in await coach.games()
    stats = await coach.stats(None, None, "game")
    assert (stats.last - stats.first).days == 29
    assert stats.totals.questions >= 0
    with pytest.raises(UpstreamProblemError) as caught:
        await coach.put_game("contract", {"slug": "contract"}, admin)
    assert (caught.value.status, caught.value.code) == (422, "invalid_request")


async def test_rag_lists_shows_and_deletes_documents(rag_http: httpx.AsyncClient, admin: User) -> None:
    document = {"key": "a", "locale": "ko", "kind": "text", "title": "궁수", "source": "s", "licence": "l"}
    document |= {"sha256": "0" * 64, "chunks": [{"text": "궁수는 활을 쏜다."}]}  # type: ignore[dict-item]
    await rag_http.put("/internal/documents", json={"game": "contract", "documents": [document]})
    rag = RagClient(rag_http)
    (listed,) = (await rag.documents("contract", None, 10)).documents
    shown = await rag.document(listed.id)
    assert (shown.title, [piece.text for piece in shown.pieces]) == ("궁수", ["궁수는 활을 쏜다."])
    await rag.delete_document(listed, admin)
    assert (await rag.documents("contract", None, 10)).documents == []
    with pytest.raises(NotFoundError):
        await rag.document(listed.id)


async def test_worker_takes_a_file_and_shows_its_job(worker: WorkerClient, admin: User) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"# Archers\n\n"
        yield uuid4().hex.encode()

    said = DocumentUpload(game="contract", locale="en", url="https://video.test/1", again=True)
    job = await worker.upload("guide.md", said, 43, content(), admin)
    assert (await worker.job(job.id)).kind == "document.ingest"
    assert job.id in [listed.id for listed in (await worker.jobs(None, None)).jobs]
    assert {queue.name for queue in (await worker.queues()).queues} == {"interactive", "ingest", "maintenance"}
    with pytest.raises(NotFoundError):
        await worker.job(UUID(int=0))
    with pytest.raises(UpstreamProblemError) as caught:
        await worker.upload("guide.pdf", said, 43, content(), admin)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_document")
