"""Users and signing keys: what auth is asked, in whose name, and what the audit says."""

import logging
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.db import Sessions
from common.testing import Tokens

from .conftest import Person, Services, audit_of
from .neighbours import KEY, USER, USER_DETAIL

USER_PATH = f"/users/{USER['id']}"
KEY_PATH = f"/keys/{KEY['kid']}"
ERASURE = {
    "id": "0b0e7d39-9b5c-4f7c-a8f5-6f5a1c0f6f00",
    "state": "pending",
    "services": {"auth": "done", "coach": "pending"},
    "requested_at": "2026-10-01T00:00:00Z",
    "finished_at": None,
}
READS = ["/users", USER_PATH, "/keys"]
WRITES: list[tuple[str, str, object]] = [
    ("PATCH", USER_PATH, {"plan": "premium"}),
    ("POST", f"{USER_PATH}/logout", {"reason": "lost phone"}),
    ("DELETE", USER_PATH, None),
    ("POST", "/keys/rotate", None),
    ("DELETE", KEY_PATH, None),
]


@pytest.fixture(autouse=True)
def stocked(services: Services) -> None:
    auth = services.auth_ops
    auth.answers("POST", "/internal/users/search", {"users": [USER], "next_cursor": None})
    auth.answers("GET", f"/internal{USER_PATH}", USER_DETAIL)
    auth.answers("PATCH", f"/internal{USER_PATH}", {**USER_DETAIL, "plan": "premium"})
    auth.answers("POST", f"/internal{USER_PATH}/logout", {"sessions": 2})
    auth.answers("DELETE", f"/internal{USER_PATH}", ERASURE, 202)
    auth.answers("GET", "/internal/keys", {"keys": [KEY]})
    auth.answers("POST", "/internal/keys/rotate", {"keys": [KEY, {**KEY, "kid": "new", "state": "next"}]}, 202)
    auth.answers("DELETE", f"/internal{KEY_PATH}", None, 204)


@pytest.mark.parametrize("path", READS)
async def test_viewers_and_admins_read_in_their_own_name(
    client: httpx.AsyncClient, admin: Person, viewer: Person, tokens: Tokens, services: Services, path: str
) -> None:
    for person in (admin, viewer):
        assert (await client.get(f"/admin{path}", headers=person.headers)).status_code == 200
        assert services.auth_ops.calls[-1].actor == person.token
    assert (await client.get(f"/admin{path}", headers=tokens.headers())).status_code == 403
    assert (await client.get(f"/admin{path}")).status_code == 401


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_only_admins_change_anything(
    client: httpx.AsyncClient,
    viewer: Person,
    tokens: Tokens,
    services: Services,
    method: str,
    path: str,
    body: object,
) -> None:
    for headers, status in ((viewer.headers, 403), (tokens.headers(), 403), ({}, 401)):
        assert (await client.request(method, f"/admin{path}", headers=headers, json=body)).status_code == status
    assert services.auth_ops.calls == []


async def test_a_search_reaches_auth_in_a_body_and_the_page_comes_back(
    client: httpx.AsyncClient, viewer: Person, services: Services
) -> None:
    asked = {"email": "jinx@", "role": "player", "status": "active", "limit": 20}
    shown = await client.get("/admin/users", params=asked, headers=viewer.headers)
    assert shown.json() == {"users": [USER], "next_cursor": None}
    assert services.auth_ops.calls[-1].body == asked


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"role": "owner"}, {"id": "7"}, {"email": ""}, {"cursor": "x"}, {"mail": "a"}]
)
async def test_a_search_that_makes_no_sense_is_422(
    client: httpx.AsyncClient, viewer: Person, services: Services, params: dict[str, Any]
) -> None:
    assert (await client.get("/admin/users", params=params, headers=viewer.headers)).status_code == 422
    assert services.auth_ops.calls == []


async def test_a_changed_user_is_audited_with_before_after_and_reason_but_no_address(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    body = {"plan": "premium", "reason": "contest"}
    changed = await client.patch(f"/admin{USER_PATH}", json=body, headers=admin.headers)
    assert (changed.status_code, changed.json()["plan"]) == (200, "premium")
    call = services.auth_ops.calls[-1]
    assert (call.method, call.body, call.actor) == ("PATCH", body, admin.token)
    (entry,) = await audit_of(sessions, admin)
    assert (entry.action, entry.target, entry.outcome) == ("user.change", USER["id"], "done")
    assert entry.before == {"role": "player", "plan": "free", "status": "active"}
    assert entry.after == {"role": "player", "plan": "premium", "status": "active", "reason": "contest"}


async def test_what_auth_refuses_is_the_reply_and_a_failed_change(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    problem = {"code": "own_account", "title": "자신의", "detail": "자신의"}
    services.auth_ops.answers("PATCH", f"/internal{USER_PATH}", problem, 409)
    refused = await client.patch(f"/admin{USER_PATH}", json={"role": "player"}, headers=admin.headers)
    assert (refused.status_code, refused.json()["code"], refused.json()["title"]) == (409, "own_account", "자신의")
    (entry,) = await audit_of(sessions, admin)
    assert (entry.outcome, entry.after) == ("failed", None)


async def test_a_user_that_is_not_there_is_404_and_not_named_in_the_audit(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    services.auth_ops.clear()
    assert (await client.get(f"/admin{USER_PATH}", headers=admin.headers)).status_code == 404
    for method, path, body in WRITES[:3]:
        reply = await client.request(method, f"/admin{path}", json=body, headers=admin.headers)
        assert reply.status_code == 404
    assert await audit_of(sessions, admin) == []


async def test_sessions_are_ended_with_or_without_a_reason(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    for body in (None, {"reason": "lost phone"}):
        ended = await client.post(f"/admin{USER_PATH}/logout", json=body, headers=admin.headers)
        assert (ended.status_code, ended.json()) == (200, {"sessions": 2})
        assert services.auth_ops.calls[-1].body == (body or {})
    plain, reasoned = await audit_of(sessions, admin)
    assert (plain.action, plain.target, plain.after) == ("user.sign_out", USER["id"], {"sessions": 2, "reason": None})
    assert reasoned.after == {"sessions": 2, "reason": "lost phone"}


async def test_an_erasure_is_audited_with_its_receipt(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    erased = await client.delete(f"/admin{USER_PATH}", headers=admin.headers)
    assert (erased.status_code, erased.json()) == (202, ERASURE)
    assert services.auth_ops.calls[-1].actor == admin.token
    (entry,) = await audit_of(sessions, admin)
    assert (entry.action, entry.after, entry.outcome) == ("user.erase", {"erasure": ERASURE["id"]}, "done")


async def test_keys_are_rotated_and_dropped_and_both_are_audited(
    client: httpx.AsyncClient, admin: Person, services: Services, sessions: Sessions
) -> None:
    rotated = await client.post("/admin/keys/rotate", headers=admin.headers)
    assert (rotated.status_code, [key["state"] for key in rotated.json()["keys"]]) == (202, ["active", "next"])
    assert (await client.delete(f"/admin{KEY_PATH}", headers=admin.headers)).status_code == 204
    rotation, drop = await audit_of(sessions, admin)
    assert (rotation.action, rotation.after) == ("signing_key.rotate", {KEY["kid"]: "active", "new": "next"})
    assert (drop.action, drop.target, drop.outcome) == ("signing_key.drop", KEY["kid"], "done")


async def test_an_address_that_is_looked_for_is_in_no_log_and_no_trace(
    client: httpx.AsyncClient, viewer: Person, caplog: pytest.LogCaptureFixture
) -> None:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    caplog.set_level(logging.DEBUG)
    await client.get("/admin/users", params={"email": "private@example.com"}, headers=viewer.headers)
    await client.get("/admin/users", params={"email": "private@example.com", "limit": 0}, headers=viewer.headers)
    spans = [str(dict(span.attributes or {})) for span in exporter.get_finished_spans()]
    exporter.shutdown()
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "/admin/users" in logged
    assert "private" not in logged
    assert "/admin/users" in "".join(spans)
    assert "private" not in "".join(spans)
