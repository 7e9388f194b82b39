"""A token that was taken back is refused within seconds, by the gateway and by each service reached directly."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .conftest import TIMEOUT, System

WITHIN_SECONDS = 5.0
PAUSE_SECONDS = 0.02

Probe = Callable[[str], int]


@dataclass
class Person:
    """Somebody signed in."""

    id: str
    email: str
    access_token: str
    refresh_token: str


Act = Callable[[httpx.Client, httpx.Client, Person], httpx.Response]


@pytest.fixture(scope="module")
def probes(system: System) -> Iterator[dict[str, Probe]]:
    """By service: the status with which it answers a token, through the gateway or past it."""
    if system.state is None:
        pytest.skip("services of a system elsewhere cannot be reached directly; DUGOUT_STATE names the state folder")
    urls: dict[str, str] = json.loads((system.state / "running.json").read_text())["service_urls"]
    secret = json.loads((system.state / "secrets.json").read_text())["client_secrets"]["admin"]
    with ExitStack() as stack:

        def client(url: str) -> httpx.Client:
            return stack.enter_context(httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False))

        clients = {"gateway": client(system.url), **{name: client(url) for name, url in urls.items()}}

        def player(service: str, path: str) -> Probe:
            return lambda token: clients[service].get(path, headers={"Authorization": f"Bearer {token}"}).status_code

        def acting(service: str, method: str, path: str) -> Probe:
            """For whom the admin service calls."""
            form = {"grant_type": "client_credentials", "client_id": "admin", "client_secret": secret}
            granted = clients["auth"].post("/internal/token", data={**form, "audience": service}).json()
            own = {"Authorization": f"Bearer {granted['access_token']}"}

            def probe(token: str) -> int:
                return clients[service].request(method, path, headers={**own, "Dugout-Actor-Token": token}).status_code

            return probe

        yield {
            "gateway": player("gateway", "/api/coach/games"),
            "auth": player("auth", "/auth/me"),
            "coach": player("coach", "/api/coach/games"),
            "admin": player("admin", "/admin/stats"),
            "rag": acting("rag", "DELETE", f"/internal/documents/{uuid4()}"),
            "worker": acting("worker", "POST", "/internal/uploads"),
        }


def sign_in(client: httpx.Client, email: str, **who: str) -> Person:
    reply = client.post("/auth/dev/login", json={"email": email, **who})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return Person(body["user"]["id"], email, body["access_token"], body["refresh_token"])


def log_out(own: httpx.Client, _: httpx.Client, person: Person) -> httpx.Response:
    return own.post("/auth/logout", json={"refresh_token": person.refresh_token})


def log_out_everywhere(own: httpx.Client, _: httpx.Client, person: Person) -> httpx.Response:
    elsewhere = sign_in(own, person.email)
    return own.post("/auth/logout", json={"refresh_token": elsewhere.refresh_token, "everywhere": True})


def be_logged_out(_: httpx.Client, admin: httpx.Client, person: Person) -> httpx.Response:
    return admin.post(f"/admin/users/{person.id}/logout", json={"reason": "lost phone"})


def be_changed(**changes: str) -> Act:
    def change(_: httpx.Client, admin: httpx.Client, person: Person) -> httpx.Response:
        return admin.patch(f"/admin/users/{person.id}", json={"reason": "a test", **changes})

    return change


ACTS: dict[str, Act] = {
    "logout": log_out,
    "logout everywhere": log_out_everywhere,
    "logout by an admin": be_logged_out,
    "ban": be_changed(status="banned"),
    "new plan": be_changed(plan="premium"),
    "new role": be_changed(role="viewer"),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_token_already_given_out_is_refused_everywhere_within_seconds(
    nobody: httpx.Client, admin: httpx.Client, probes: dict[str, Probe], act: str
) -> None:
    person = sign_in(nobody, f"{uuid4().hex}@example.com")
    assert {service: probe(person.access_token) == 401 for service, probe in probes.items()} == dict.fromkeys(
        probes, False
    )
    done = ACTS[act](nobody, admin, person)
    assert done.is_success, done.text
    refused = _refusals(probes, person.access_token)
    print(f"{act}: refused by " + ", ".join(f"{service} after {after:.2f} s" for service, after in refused.items()))
    assert refused.keys() == probes.keys()
    assert {probe(person.access_token) for probe in probes.values()} == {401}


def _refusals(probes: dict[str, Probe], token: str) -> dict[str, float]:
    """After how many seconds each service refused `token`; those that did not in time are missing."""
    begin, refused = time.monotonic(), dict[str, float]()
    while refused.keys() != probes.keys() and time.monotonic() - begin < WITHIN_SECONDS:
        for service, probe in probes.items():
            if service not in refused and probe(token) == 401:
                refused[service] = time.monotonic() - begin
        time.sleep(PAUSE_SECONDS)
    return refused


def test_a_new_plan_costs_its_owner_no_more_than_a_refresh(
    nobody: httpx.Client, admin: httpx.Client, probes: dict[str, Probe]
) -> None:
    person = sign_in(nobody, f"{uuid4().hex}@example.com", plan="free")
    assert be_changed(plan="premium")(nobody, admin, person).is_success
    assert _refusals(probes, person.access_token).keys() == probes.keys()
    renewed = nobody.post("/auth/refresh", json={"refresh_token": person.refresh_token}).json()
    assert renewed["user"]["plan"] == "premium"
    assert all(probe(renewed["access_token"]) != 401 for probe in probes.values())
