"""Tokens for our own services."""

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import select

from auth.app import build
from auth.models import ServiceClient
from auth.settings import Settings
from common.claims import ServiceClaims
from common.db import Sessions
from common.http import ServiceAuth
from common.identity import Verifier
from common.public_keys import http_key_source
from common.testing import nothing_revoked, running


@pytest.fixture
def form(settings: Settings) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": "worker",
        "client_secret": settings.service_secrets["worker"].get_secret_value(),
        "audience": "rag",
        "scope": "rag:documents",
    }


async def test_a_service_gets_a_token_its_callee_accepts(client: httpx.AsyncClient, form: dict[str, str]) -> None:
    response = await client.post("/internal/token", data=form)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    reply = response.json()
    assert {key: reply[key] for key in reply.keys() - {"access_token"}} == {
        "token_type": "Bearer",
        "expires_in": 600,
        "scope": "rag:documents",
    }
    rag = Verifier(fetch_keys=http_key_source(client), issuer="dugout", audience="rag", revocations=nothing_revoked())
    claims = await rag.verify(reply["access_token"])
    assert isinstance(claims, ServiceClaims)
    assert (claims.sub, claims.aud, claims.scope) == ("worker", "rag", "rag:documents")


async def test_the_floors_client_signs_calls_with_such_a_token(client: httpx.AsyncClient, settings: Settings) -> None:
    service_auth = ServiceAuth(
        client,
        client_id="admin",
        client_secret=settings.service_secrets["admin"],
        audience="auth",
        scope="auth:read",
    )
    response = await client.get("/internal/stats", auth=service_auth)
    assert (response.status_code, response.json().keys()) == (200, {"players", "premium", "premium_share"})


@pytest.mark.parametrize(
    ("client_id", "audience", "granted"),
    [
        ("coach", "rag", "rag:answer"),
        ("worker", "rag", "rag:documents"),
        ("worker", "coach", "coach:complete"),
        ("admin", "rag", "rag:documents"),
        ("admin", "coach", "coach:read coach:games"),
        ("admin", "worker", "worker:ops"),
        ("admin", "auth", "auth:revocations auth:read auth:users auth:keys"),
    ],
)
async def test_without_a_scope_all_that_the_client_may_have_is_granted(
    client: httpx.AsyncClient, settings: Settings, client_id: str, audience: str, granted: str
) -> None:
    secret = settings.service_secrets[client_id].get_secret_value()
    asked = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
        "audience": audience,
    }
    assert (await client.post("/internal/token", data=asked)).json()["scope"] == granted


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "ghost"}, 401, "invalid_client"),
        ({"client_id": "worker\x00"}, 401, "invalid_client"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": "coach-secret-of-the-tests"}, 401, "invalid_client"),
        ({"audience": "admin"}, 400, "invalid_target"),
        ({"audience": "dugout"}, 400, "invalid_target"),
        ({"scope": "rag:answer"}, 400, "invalid_scope"),
        ({"scope": "rag:documents rag:answer"}, 400, "invalid_scope"),
        ({"scope": "coach:complete"}, 400, "invalid_scope"),
        ({"scope": " "}, 400, "invalid_scope"),
    ],
)
async def test_what_a_service_may_not_have_is_refused(
    client: httpx.AsyncClient, form: dict[str, str], change: dict[str, str], status: int, code: str
) -> None:
    response = await client.post("/internal/token", data={**form, **change})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_request_without_a_field_is_422(client: httpx.AsyncClient, form: dict[str, str]) -> None:
    del form["client_secret"]
    response = await client.post("/internal/token", data=form)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "body.client_secret")


async def test_the_environment_is_the_truth_about_secrets(
    client: httpx.AsyncClient, settings: Settings, sessions: Sessions, form: dict[str, str]
) -> None:
    renewed = {"worker": SecretStr("renewed-secret-of-worker")}
    async with running(build(settings.model_copy(update={"service_secrets": renewed})), sessions=sessions) as restarted:
        assert (await restarted.post("/internal/token", data=form)).status_code == 401
        form["client_secret"] = "renewed-secret-of-worker"
        assert (await restarted.post("/internal/token", data=form)).status_code == 200
    async with sessions() as session:
        stored = (await session.exec(select(ServiceClient))).all()
    assert [row.client_id for row in stored] == ["worker"]
    assert b"renewed-secret-of-worker" not in stored[0].secret_hash
