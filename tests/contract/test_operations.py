"""What all operations of all services have in common: who may call them, and what their documents say."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from auth.app import build
from auth.settings import Settings
from common.errors import PROBLEM_JSON
from gateway.openapi import merge, public_part

PUBLIC = {
    "POST /auth/google/login",
    "POST /auth/refresh",
    "POST /auth/logout",
    "POST /auth/dev/login",
    # Whoever has the receipt of an erasure has no account any more.
    "GET /auth/erasures/{erasure_id}",
    "GET /.well-known/jwks.json",
    # For a client's secret.
    "POST /internal/token",
}


class Operation(NamedTuple):
    """A method of a path, and what the service's document says about it."""

    service: str
    method: str
    path: str
    said: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def operations(apps: dict[str, FastAPI]) -> Iterator[Operation]:
    """All of them."""
    for service, app in apps.items():
        for path, item in app.openapi()["paths"].items():
            for method, said in item.items():
                yield Operation(service, method.upper(), path, said)


@pytest.fixture(scope="module")
def document(apps: dict[str, FastAPI]) -> dict[str, Any]:
    """The merged one, as the gateway shows it."""
    return merge({name: public_part(name, apps[name].openapi()) for name in ("auth", "coach", "admin")})


async def test_every_operation_but_these_wants_a_token(
    apps: dict[str, FastAPI], doors: dict[str, httpx.AsyncClient]
) -> None:
    for operation in operations(apps):
        path = re.sub(r"\{[^}]+\}", str(UUID(int=7)), operation.path)
        reply = await doors[operation.service].request(operation.method, path)
        is_public = operation.name in PUBLIC
        assert is_public or reply.status_code == 401, operation.name
        assert bool(operation.said.get("security")) is not is_public, operation.name
        assert is_public or "401" in operation.said["responses"], operation.name


def test_nothing_of_the_inside_is_in_the_document(document: dict[str, Any]) -> None:
    assert document["paths"].keys() >= {"/auth/me", "/api/coach/ask", "/admin/users"}
    assert not [
        path for path in document["paths"] if not path.startswith(("/auth/", "/api/", "/admin/", "/.well-known/"))
    ]


def test_every_operation_says_what_it_is(document: dict[str, Any]) -> None:
    ids = []
    for path, item in document["paths"].items():
        for method, said in item.items():
            ids.append(said["operationId"])
            assert said["summary"], (method, path)
            assert said["description"], (method, path)
            assert said["tags"] in (["auth"], ["coach"], ["admin"]), (method, path)
            assert re.fullmatch(r"(auth|coach|admin)_[a-z_]+", said["operationId"])
    assert len(ids) == len(set(ids))


def test_every_failure_is_a_problem_document(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, said in item.items():
            for status, reply in said["responses"].items():
                if status >= "400":
                    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
                    assert reply["content"] == content, (method, path, status)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for kind, name in references(document):
        assert name in document["components"][kind], name


def references(node: Any) -> Iterator[tuple[str, str]]:
    """Components that are referred to, by kind and name."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key == "$ref":
            kind, name = value.removeprefix("#/components/").split("/")
            yield kind, name
        else:
            yield from references(value)
    for value in node if isinstance(node, list) else ():
        yield from references(value)


def test_the_development_sign_in_is_described_in_development_only(
    document: dict[str, Any], told_to_auth: dict[str, Any]
) -> None:
    assert "/auth/dev/login" in document["paths"]
    told = {**told_to_auth, "env": "production", "database_url": SecretStr("postgresql+asyncpg://elsewhere.example/x")}
    assert "/auth/dev/login" not in build(Settings(**told)).openapi()["paths"]
