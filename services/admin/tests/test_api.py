"""Who may do what, and what the other services' answers become."""

import httpx
import pytest
from jose import jwt

from common.identity import ACTOR_HEADER
from common.testing import Tokens

from .conftest import Person, Services
from .neighbours import DOCUMENT, JOB

GAME = {"slug": "wesnoth", "titles": {"en": "Wesnoth"}, "locales": ["en"], "patch": "1.18"}
READS = ["/stats", "/queues", "/jobs", f"/jobs/{JOB['id']}", "/documents", f"/documents/{DOCUMENT['id']}", "/games"]
WRITES = [("POST", "/documents"), ("DELETE", f"/documents/{DOCUMENT['id']}"), ("PUT", "/games/wesnoth")]
QUEUE = {
    "name": "ingest",
    "depth": 2,
    "oldest_seconds": 1.5,
    "eta_seconds": None,
    "consumers": 1,
    "rate_per_minute": 0.0,
    "retries": 0,
    "dead_letters": 0,
}


@pytest.fixture(autouse=True)
def stocked(services: Services) -> None:
    services.worker.answers("GET", "/internal/queues", {"queues": [QUEUE]})
    services.worker.answers("GET", "/internal/jobs", {"jobs": [JOB], "next": None})
    services.worker.answers("GET", f"/internal/jobs/{JOB['id']}", JOB)
    services.rag.answers("GET", "/internal/documents", {"documents": [DOCUMENT], "next_cursor": None})
    services.rag.answers("GET", f"/internal/documents/{DOCUMENT['id']}", {**DOCUMENT, "pieces": []})


@pytest.mark.parametrize("path", READS)
async def test_viewers_and_admins_read_and_players_do_not(
    client: httpx.AsyncClient, admin: Person, viewer: Person, tokens: Tokens, path: str
) -> None:
    for person in (admin, viewer):
        shown = await client.get(f"/admin{path}", headers=person.headers)
        assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")
    assert (await client.get(f"/admin{path}", headers=tokens.headers())).status_code == 403
    assert (await client.get(f"/admin{path}")).status_code == 401


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_only_admins_change_anything(
    client: httpx.AsyncClient, viewer: Person, tokens: Tokens, services: Services, method: str, path: str
) -> None:
    for headers, status in ((viewer.headers, 403), (tokens.headers(), 403), ({}, 401)):
        response = await client.request(method, f"/admin{path}", headers=headers, json=GAME)
        assert response.status_code == status
    changes = services.coach.calls + services.rag.calls + services.worker.calls
    assert [call for call in changes if call.method != "GET"] == []


async def test_answers_of_the_services_are_shown_unchanged(client: httpx.AsyncClient, viewer: Person) -> None:
    async def shown(path: str) -> object:
        return (await client.get(f"/admin{path}", headers=viewer.headers)).json()

    assert await shown("/queues") == {"queues": [QUEUE]}
    assert await shown(f"/jobs/{JOB['id']}") == JOB
    assert await shown(f"/documents/{DOCUMENT['id']}") == {**DOCUMENT, "pieces": []}
    assert await shown("/documents") == {"documents": [DOCUMENT], "next_cursor": None}


async def test_each_service_gets_a_token_of_its_own(
    client: httpx.AsyncClient, viewer: Person, services: Services
) -> None:
    for path in ("/queues", "/documents", "/games"):
        await client.get(f"/admin{path}", headers=viewer.headers)
    for service, audience in ((services.worker, "worker"), (services.rag, "rag"), (services.coach, "coach")):
        claims = jwt.get_unverified_claims(service.calls[-1].headers["authorization"].removeprefix("Bearer "))
        assert (claims["sub"], claims["aud"]) == ("admin", audience)
        assert ACTOR_HEADER.lower() not in service.calls[-1].headers


async def test_wrong_filters_are_refused_here(client: httpx.AsyncClient, viewer: Person, services: Services) -> None:
    assert (await client.get("/admin/documents", params={"limit": 0}, headers=viewer.headers)).status_code == 422
    assert (await client.get("/admin/jobs", params={"state": "lost"}, headers=viewer.headers)).status_code == 422
    assert services.rag.calls + services.worker.calls == []


@pytest.mark.parametrize(
    ("status", "code", "shown", "shown_code"),
    [
        (404, "job_not_found", 404, "not_found"),
        (409, "conflict", 409, "conflict"),
        (403, "forbidden", 502, "upstream_failed"),
        (500, "internal_error", 502, "upstream_failed"),
        (503, "broker_unavailable", 503, "broker_unavailable"),
    ],
)
async def test_problems_of_a_service_keep_their_meaning(
    client: httpx.AsyncClient,
    viewer: Person,
    services: Services,
    status: int,
    code: str,
    shown: int,
    shown_code: str,
) -> None:
    services.worker.refuses("/internal/queues", status, code)
    response = await client.get("/admin/queues", headers=viewer.headers)
    assert (response.status_code, response.json()["code"]) == (shown, shown_code)
