"""Google sign-in, driven by a server that publishes certificates as Google does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlmodel import select

from auth.app import build
from auth.google import Google, InvalidGoogleTokenError, google_client
from auth.models import Audit, User
from auth.settings import Settings
from auth.shapes import GoogleLogin
from common.db import Sessions, uuid7
from common.testing import running
from standins.gate import Gate
from standins.google import CLIENT_ID, GoogleStandin
from standins.standin import Reply

FORGERIES = (
    "signed with another key",
    "key never published",
    "expired",
    "issued in the future",
    "for another audience",
    "by another issuer",
    "changed after signing",
    "without signature",
    "HS256 with the certificate as secret",
)


@pytest.fixture
async def verifier(google: GoogleStandin) -> AsyncIterator[Google]:
    """The verifier by itself."""
    async with google_client(certs_url=google.certs_url, client_ids=[CLIENT_ID], timeout_seconds=1) as verifier:
        yield verifier


async def sign_in(client: httpx.AsyncClient, id_token: str, **body: str) -> httpx.Response:
    return await client.post("/auth/google/login", json={"id_token": id_token, **body})


async def test_the_first_sign_in_creates_the_account(
    client: httpx.AsyncClient, google: GoogleStandin, sessions: Sessions
) -> None:
    response = await sign_in(client, google.sign_in(subject="s-1", email="Ashe@example.com", name="애쉬", locale="ko"))
    assert response.status_code == 200
    user = response.json()["user"]
    shown = {key: user[key] for key in user.keys() - {"id"}}
    assert shown == {"email": "ashe@example.com", "name": "애쉬", "locale": "ko", "role": "player", "plan": "free"}
    async with sessions() as session:
        stored = (await session.exec(select(User).where(User.id == UUID(user["id"])))).one()
    assert (stored.issuer, stored.subject) == ("https://accounts.google.com", "s-1")


async def test_the_account_follows_the_subject_and_never_the_address(
    client: httpx.AsyncClient, google: GoogleStandin
) -> None:
    first = (await sign_in(client, google.sign_in(subject="s-1", email="old@example.com"))).json()["user"]
    moved = (await sign_in(client, google.sign_in(subject="s-1", email="new@example.com"))).json()["user"]
    other = (await sign_in(client, google.sign_in(subject="s-2", email="old@example.com"))).json()["user"]
    assert moved["id"] == first["id"]
    assert moved["email"] == "new@example.com"
    assert other["id"] != first["id"]


async def test_both_spellings_of_googles_issuer_are_one_account(
    client: httpx.AsyncClient, google: GoogleStandin
) -> None:
    ids = {
        (await sign_in(client, google.sign_in(subject="s-1", iss=issuer))).json()["user"]["id"]
        for issuer in ("accounts.google.com", "https://accounts.google.com")
    }
    assert len(ids) == 1


async def test_what_the_player_chose_outlives_the_next_sign_in(
    client: httpx.AsyncClient, google: GoogleStandin
) -> None:
    signed_in = (await sign_in(client, google.sign_in(name="Real Name", locale="en"))).json()
    headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
    await client.patch("/auth/me", json={"name": "Nick", "locale": "ko"}, headers=headers)
    again = (await sign_in(client, google.sign_in(name="Real Name", locale="en"))).json()["user"]
    assert (again["name"], again["locale"]) == ("Nick", "ko")


async def test_first_sign_ins_at_once_make_one_account(
    settings: Settings, google: GoogleStandin, committed: Sessions
) -> None:
    subject = str(uuid7())
    async with running(build(settings)) as client:
        replies = await asyncio.gather(*(sign_in(client, google.sign_in(subject=subject)) for _ in range(5)))
    assert [reply.status_code for reply in replies] == [200] * 5
    assert len({reply.json()["user"]["id"] for reply in replies}) == 1


async def test_a_listed_verified_address_makes_an_admin_and_is_written_down(
    client: httpx.AsyncClient, google: GoogleStandin, sessions: Sessions
) -> None:
    user = (await sign_in(client, google.sign_in(email="FIRST.admin@example.com"))).json()["user"]
    assert user["role"] == "admin"
    async with sessions() as session:
        (entry,) = (await session.exec(select(Audit).where(Audit.subject == user["id"]))).all()
    assert (entry.action, entry.actor, entry.detail) == ("user.granted", "environment", {"role": "admin"})


async def test_an_address_google_has_not_verified_is_worth_nothing(
    client: httpx.AsyncClient, google: GoogleStandin
) -> None:
    token = google.sign_in(email="first.admin@example.com", email_verified=False)
    user = (await sign_in(client, token)).json()["user"]
    assert (user["role"], user["email"]) == ("player", None)


async def test_the_development_login_takes_no_address_for_an_admins(client: httpx.AsyncClient) -> None:
    response = await client.post("/auth/dev/login", json={"email": "first.admin@example.com"})
    assert response.json()["user"]["role"] == "player"


@pytest.mark.parametrize("what", FORGERIES)
async def test_a_forged_token_is_401(client: httpx.AsyncClient, google: GoogleStandin, what: str) -> None:
    response = await sign_in(client, google.forged()[what])
    assert (response.status_code, response.json()["code"]) == (401, "invalid_google_token")


def test_every_forgery_of_the_server_is_tried(google: GoogleStandin) -> None:
    assert set(FORGERIES) == google.forged().keys()


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\0b"},
        {"sub": "x" * 256},
        {"iss": None},
        {"iss": ["https://accounts.google.com"]},
        {"aud": None},
        {"aud": [CLIENT_ID]},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": None},
        {"iat": {}},
        {"name": 5},
    ],
)
async def test_a_signed_token_with_strange_claims_is_401(
    client: httpx.AsyncClient, google: GoogleStandin, claims: dict[str, object]
) -> None:
    response = await sign_in(client, google.sign_in(**claims))
    assert (response.status_code, response.json()["code"]) == (401, "invalid_google_token")


async def test_a_name_that_nothing_can_store_is_left_out(client: httpx.AsyncClient, google: GoogleStandin) -> None:
    response = await sign_in(client, google.sign_in(name="Han\ud83d\x00"))
    assert (response.status_code, response.json()["user"]["name"]) == (200, "Han")


@pytest.mark.parametrize(
    ("sent", "in_token", "status"),
    [("n-1", "n-1", 200), (None, None, 200), ("n-1", "n-2", 401), ("n-1", None, 401), (None, "n-1", 401)],
)
async def test_the_nonce_must_be_the_one_in_the_token(
    client: httpx.AsyncClient, google: GoogleStandin, sent: str | None, in_token: str | None, status: int
) -> None:
    body = {"nonce": sent} if sent else {}
    assert (await sign_in(client, google.sign_in(nonce=in_token), **body)).status_code == status


@pytest.mark.parametrize(
    "id_token", ["nonsense", "a.b.c", "..", "é.é.é", "e30.e30.e30", "W1tb" * 1500 + ".e30.AAAA", "bnVsbA.bnVsbA.AAAA"]
)
async def test_a_malformed_token_is_401(client: httpx.AsyncClient, id_token: str) -> None:
    response = await sign_in(client, id_token)
    assert (response.status_code, response.json()["code"]) == (401, "invalid_google_token")


@pytest.mark.parametrize("body", [{}, {"id_token": ""}, {"id_token": "a" * 8193}, {"id_token": "a.b.c", "nonce": ""}])
async def test_a_malformed_body_is_422(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    response = await client.post("/auth/google/login", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_no_text_and_no_altered_token_passes(
    verifier: Google, google: GoogleStandin, data: st.DataObject
) -> None:
    good = google.sign_in()
    position = data.draw(st.integers(0, len(good.rpartition(".")[0])))
    altered = good[:position] + data.draw(st.sampled_from("Aa0-_.é[")) + good[position + 1 :]
    id_token = data.draw(st.one_of(st.text(min_size=1, max_size=200), st.just(altered)))
    if id_token == good:
        return
    with pytest.raises(InvalidGoogleTokenError):
        await verifier.verify(GoogleLogin(id_token=id_token))


TROUBLES: dict[str, Callable[[], Reply]] = {
    "error": lambda: Reply(status=500),
    "reset": lambda: Reply(reset=True),
    "stalled": lambda: Reply(hold=Gate()),
    "not JSON": lambda: Reply(status=200, body="<html>"),
    "JSON of another kind": lambda: Reply(status=200, body='{"keys": []}'),
    "an error in words": lambda: Reply(status=200, body='{"error": "quota exceeded"}'),
    "no certificate": lambda: Reply(status=200, body="{}"),
    "a certificate that is none": lambda: Reply(status=200, body='{"k": "-----BEGIN CERTIFICATE-----"}'),
    "ten megabytes": lambda: Reply(status=200, body=" " * 10_000_000),
    "not gzip": lambda: Reply(status=200, body="{}", headers={"Content-Encoding": "gzip"}),
    "moved": lambda: Reply(status=302, headers={"Location": "/elsewhere"}),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_google_in_trouble_is_503_with_retry_after(
    client: httpx.AsyncClient, google: GoogleStandin, trouble: str
) -> None:
    for _ in range(2):  # aiohttp tries a GET once more when its connection is reset
        google.trouble(TROUBLES[trouble]())
    response = await sign_in(client, google.sign_in())
    assert (response.status_code, response.json()["code"]) == (503, "google_unavailable")
    assert response.headers["retry-after"] == "5"


async def test_google_that_cannot_be_reached_is_503(
    settings: Settings, sessions: Sessions, google: GoogleStandin
) -> None:
    away = settings.model_copy(update={"google_certs_url": "http://127.0.0.1:1/certs"})
    async with running(build(away), sessions=sessions) as client:
        response = await sign_in(client, google.sign_in())
        assert (response.status_code, response.json()["code"]) == (503, "google_unavailable")


async def test_what_is_not_meant_for_us_asks_nothing_of_google(
    client: httpx.AsyncClient, google: GoogleStandin
) -> None:
    for id_token in ("a.b.c", google.sign_in(audience="somebody-else.apps.googleusercontent.com")):
        assert (await sign_in(client, id_token)).status_code == 401
    assert google.fetches == 0


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({"name": "a\0b"}, {"name": "ab"}),
        ({"name": "\n"}, {"name": None}),
        ({"name": "x" * 500}, {"name": "x" * 80}),
        ({"email": "a\0@example.com"}, {"email": None}),
        ({"email": "x" * 300 + "@example.com"}, {"email": None}),
        ({"email": "player@example.com\n"}, {"email": None}),
        ({"email": "", "name": None}, {"email": None, "name": None}),
        ({"hd": "studio.example", "email": "dev@studio.example"}, {"email": "dev@studio.example"}),
    ],
)
async def test_what_an_account_cannot_hold_is_left_out(
    client: httpx.AsyncClient, google: GoogleStandin, claims: dict[str, object], shown: dict[str, object]
) -> None:
    response = await sign_in(client, google.sign_in(**claims))
    assert response.status_code == 200
    assert shown.items() <= response.json()["user"].items()


async def test_google_learns_nothing_of_our_requests(google: GoogleStandin) -> None:
    async with google_client(certs_url=google.certs_url, client_ids=[CLIENT_ID], timeout_seconds=1) as verifier:
        await verifier.verify(GoogleLogin(id_token=google.sign_in()))
    assert not google.calls[0].headers.keys() & {"traceparent", "x-request-id", "authorization"}
