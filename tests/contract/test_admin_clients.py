"""Admin's clients against the apps of auth, coach, rag and the worker."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography.fernet import Fernet
from jose import jwt
from pydantic import SecretStr
from sqlmodel import delete

from admin.auth_clients import KeysClient, UsersClient
from admin.auth_models import SignOut, UserChange, UserSearch
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
        client_secret=SECRET,
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


class Auth:
    """Auth itself, as admin reaches it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def sign_in(self, email: str, **who: str) -> User:
        """Somebody with a token of auth's own."""
        reply = await self.http.post("/auth/dev/login", json={"email": email, **who})
        token = reply.json()["access_token"]
        claims = jwt.get_unverified_claims(token)
        return User(id=claims["sub"], role=claims["role"], plan="free", session_id=claims["sid"], token=token)


@pytest.fixture
async def auth(database_urls: dict[str, SecretStr]) -> AsyncIterator[Auth]:
    settings = AuthSettings(
        env="development",
        database_url=database_urls["auth"],
        key_encryption_key=SecretStr(Fernet.generate_key().decode()),
        erasure_key=SecretStr("erasure-key-of-the-tests"),
        service_secrets={"admin": SECRET},
    )
    async with rolled_back(database_urls["auth"].get_secret_value()) as sessions:
        async with sessions.begin() as session:  # one that auth's own tests left is encrypted with their key
            await session.exec(delete(SigningKey))
        async with listening(build_auth(settings), sessions=sessions) as url, http_client(url) as plain:
            scope = "auth:read auth:users auth:keys"
            signed = ServiceAuth(plain, client_id="admin", client_secret=SECRET, audience="auth", scope=scope)
            async with http_client(url, auth=signed) as http:
                yield Auth(http)


async def test_auth_grants_admin_a_token_and_counts_players(auth: Auth) -> None:
    assert 0 <= (await AuthClient(auth.http).players()).premium_share <= 1


async def test_auth_finds_shows_changes_and_signs_out_users(auth: Auth) -> None:
    admin, player = await auth.sign_in("ops@example.com", role="admin"), await auth.sign_in("jinx@example.com")
    users = UsersClient(auth.http)
    (found,) = (await users.search(UserSearch(email="jinx@", status="active", limit=10), admin)).users
    assert (found.id, found.email) == (player.id, "jinx@example.com")
    shown = await users.show(found.id, admin)
    assert ([str(session.sid) for session in shown.sessions], shown.audit) == ([player.session_id], [])
    changed = await users.change(found.id, UserChange(plan="premium", reason="contest"), admin)
    assert changed.rights() == {"role": "player", "plan": "premium", "status": "active"}
    assert (changed.audit[0].action, changed.audit[0].actor) == ("user.changed", str(admin.id))
    assert (await users.sign_out(found.id, SignOut(), admin)).sessions == 1
    with pytest.raises(NotFoundError):
        await users.show(UUID(int=0), admin)
    with pytest.raises(UpstreamProblemError) as caught:
        await users.change(admin.id, UserChange(role="player"), admin)
    assert (caught.value.status, caught.value.code) == (409, "own_account")
    with pytest.raises(UpstreamProblemError) as caught:
        await users.change(found.id, UserChange(), admin)
    assert (caught.value.status, caught.value.code) == (422, "invalid_request")


async def test_auth_rotates_shows_and_drops_keys(auth: Auth) -> None:
    admin = await auth.sign_in("ops@example.com", role="admin")
    keys = KeysClient(auth.http)
    (active,) = (await keys.list(admin)).keys
    rotated = (await keys.rotate(admin)).keys
    assert [(key.state, key.signs_from is None) for key in rotated] == [("active", True), ("next", False)]
    with pytest.raises(UpstreamProblemError) as caught:
        await keys.drop(UUID(active.kid), admin)
    assert (caught.value.status, caught.value.code) == (409, "key_in_use")
    with pytest.raises(NotFoundError):
        await keys.drop(UUID(int=0), admin)


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
