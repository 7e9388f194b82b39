"""google-auth against the stand-in: it takes what Google would sign and refuses the rest."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from standins.gate import Gate
from standins.google import CLIENT_ID, GoogleStandin, run_google
from standins.standin import Reply


@pytest.fixture(scope="module")
def running_google() -> Iterator[GoogleStandin]:
    with run_google(max_age=600) as google:
        yield google


@pytest.fixture
def google(running_google: GoogleStandin) -> GoogleStandin:
    running_google.clear()
    return running_google


def verify(google: GoogleStandin, token: str) -> Any:
    with requests.Session() as session:
        return id_token.verify_token(token, Request(session), audience=CLIENT_ID, certs_url=google.certs_url)


def test_sign_in_gives_a_token_that_google_auth_takes(google: GoogleStandin) -> None:
    claims = verify(google, google.sign_in(subject="42", email="mina@example.com", nonce="n-1", name="민아"))
    assert (claims["sub"], claims["email"], claims["nonce"], claims["name"]) == (
        "42",
        "mina@example.com",
        "n-1",
        "민아",
    )
    assert claims["iss"] == "https://accounts.google.com"
    assert google.fetches == 1


# google-auth leaves the issuer of a custom certificate URL to its caller, which is auth.
@pytest.mark.parametrize("flaw", sorted(GoogleStandin().forged().keys() - {"by another issuer"}))
def test_forged_token_is_refused(google: GoogleStandin, flaw: str) -> None:
    with pytest.raises((ValueError, GoogleAuthError)):
        verify(google, google.forged()[flaw])


def test_token_by_another_issuer_differs_in_nothing_else(google: GoogleStandin) -> None:
    claims = verify(google, google.forged(subject="42")["by another issuer"])
    assert claims["iss"] not in ("accounts.google.com", "https://accounts.google.com")
    assert claims["sub"] == "42"


def test_certificates_say_how_long_they_may_be_kept(google: GoogleStandin) -> None:
    reply = requests.get(google.certs_url, timeout=5)
    assert "max-age=600" in reply.headers["Cache-Control"]


def test_rotation_keeps_the_key_before_and_drops_older_ones(google: GoogleStandin) -> None:
    token = google.sign_in()
    google.rotate()
    assert verify(google, token)
    assert verify(google, google.sign_in())
    google.rotate()
    with pytest.raises(ValueError, match="key id"):
        verify(google, token)


def test_certificates_can_be_down(google: GoogleStandin) -> None:
    google.trouble(Reply(status=503))
    google.trouble(Reply(reset=True))
    for _ in range(2):
        with pytest.raises(TransportError):
            verify(google, google.sign_in())
    assert verify(google, google.sign_in())


def test_certificates_can_be_slow(google: GoogleStandin) -> None:
    gate = Gate()
    google.trouble(Reply(hold=gate))
    verifying = threading.Thread(target=verify, args=(google, google.sign_in()))
    verifying.start()
    while not google.fetches:
        verifying.join(0.01)
    assert verifying.is_alive()
    gate.release()
    verifying.join(5)
    assert not verifying.is_alive()


def test_person_with_curl_gets_a_token(google: GoogleStandin) -> None:
    reply = requests.post(f"{google.url}/sign-in", json={"email": "mina@example.com"}, timeout=5)
    assert verify(google, reply.json()["id_token"])["email"] == "mina@example.com"
