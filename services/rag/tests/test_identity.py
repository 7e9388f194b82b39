"""Who may call what: services with the scope, nobody else."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from common.identity import ACTOR_HEADER
from common.testing import Tokens

Document = Callable[..., dict[str, Any]]
Publish = Callable[..., Awaitable[list[dict[str, Any]]]]

ROUTES = [
    ("POST", "/retrieve"),
    ("POST", "/remember"),
    ("PUT", "/internal/documents"),
    ("GET", "/internal/documents"),
    ("GET", f"/internal/documents/{uuid4()}"),
    ("DELETE", f"/internal/documents/{uuid4()}"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_call_without_a_token_is_refused(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("role", ["player", "viewer", "admin"])
async def test_a_persons_token_is_refused(
    client: httpx.AsyncClient, tokens: Tokens, method: str, path: str, role: str
) -> None:
    response = await client.request(method, path, headers=tokens.headers(role=role))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_service_without_the_scope_is_refused(
    client: httpx.AsyncClient, tokens: Tokens, method: str, path: str
) -> None:
    scope = "rag:documents" if path in ("/retrieve", "/remember") else "rag:answer"
    response = await client.request(method, path, headers=tokens.service_headers("coach", "rag", scope))
    assert response.status_code == 403


async def test_a_token_for_another_service_is_refused(client: httpx.AsyncClient, tokens: Tokens) -> None:
    headers: dict[str, Any] = tokens.service_headers("coach", "admin", "rag:answer")
    assert (await client.post("/retrieve", json={}, headers=headers)).status_code == 401


async def test_a_deletion_is_logged_with_the_admin_it_was_made_for(
    client: httpx.AsyncClient,
    tokens: Tokens,
    publish: Publish,
    document: Document,
    as_worker: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    [published] = await publish(document("창병", "창병의 비용은 금 14이다."))
    path, admin = f"/internal/documents/{published['id']}", uuid4()
    forged = await client.delete(path, headers=as_worker | {ACTOR_HEADER: "forged"})
    assert forged.status_code == 401
    await client.delete(path, headers=as_worker | {ACTOR_HEADER: tokens.player(admin, role="admin")})
    [record] = [record for record in caplog.records if record.message == "deleted"]
    assert vars(record)["actor"] == str(admin)
