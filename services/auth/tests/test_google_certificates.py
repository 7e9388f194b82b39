"""When Google is asked for its certificates, and what holds when it does not answer."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from auth.google import Google, InvalidGoogleTokenError
from auth.google_certificates import Certificates, GoogleUnavailableError
from auth.shapes import GoogleLogin
from standins.gate import Gate
from standins.google import CLIENT_ID, GoogleStandin
from standins.standin import Reply


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(google: GoogleStandin, clock: Clock) -> AsyncIterator[Google]:
    """The verifier by itself, with a clock in our hands."""
    async with httpx.AsyncClient() as client:
        certificates = Certificates(client, url=google.certs_url, timeout_seconds=0.5, clock=clock)
        yield Google(certificates, [CLIENT_ID])
        await certificates.aclose()


async def test_certificates_are_fetched_once_and_renewed_before_they_lapse(
    verifier: Google, google: GoogleStandin, clock: Clock
) -> None:
    login = GoogleLogin(id_token=google.sign_in())
    await asyncio.gather(*(verifier.verify(login) for _ in range(5)))
    clock.now = google.max_age * 0.75 - 1
    await verifier.verify(login)
    assert google.fetches == 1
    gate = Gate()
    google.trouble(Reply(hold=gate))
    clock.now = google.max_age * 0.75
    await asyncio.gather(*(verifier.verify(login) for _ in range(5)))  # nobody waits for Google
    await google.until(lambda calls: len(calls) == 2)
    gate.open()
    clock.now = google.max_age
    await verifier.verify(login)
    assert google.fetches == 2


async def test_certificates_that_are_still_good_outlast_google(
    verifier: Google, google: GoogleStandin, clock: Clock
) -> None:
    login = GoogleLogin(id_token=google.sign_in())
    await verifier.verify(login)
    for _ in range(4):
        google.trouble(Reply(status=500))
    for share in (0.8, 0.9, 0.99):
        clock.now = google.max_age * share
        await verifier.verify(login)
    clock.now = google.max_age
    with pytest.raises(GoogleUnavailableError):
        await verifier.verify(login)


@pytest.mark.parametrize(("cache_control", "kept"), [("", 60), ("max-age=5", 60), ("max-age=999999999", 86_400)])
async def test_a_strange_max_age_is_bounded(
    verifier: Google, google: GoogleStandin, clock: Clock, cache_control: str, kept: int
) -> None:
    login = GoogleLogin(id_token=google.sign_in())
    async with httpx.AsyncClient() as client:
        body = (await client.get(google.certs_url)).text
    google.clear()
    google.trouble(Reply(status=200, body=body, headers={"Cache-Control": cache_control}))
    await verifier.verify(login)
    clock.now = kept * 0.75 - 1
    await verifier.verify(login)
    assert google.fetches == 1
    clock.now = kept
    await verifier.verify(login)
    assert google.fetches == 2


async def test_after_a_failed_fetch_nobody_waits_and_then_all_is_well(
    verifier: Google, google: GoogleStandin, clock: Clock
) -> None:
    login = GoogleLogin(id_token=google.sign_in())
    google.trouble(Reply(hold=Gate()))
    async with asyncio.timeout(1):
        results = await asyncio.gather(*(verifier.verify(login) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, GoogleUnavailableError) for result in results)
    assert google.fetches == 1
    clock.now = 5
    assert (await verifier.verify(login)).subject


async def test_a_key_google_has_newly_published_is_asked_for_but_not_often(
    verifier: Google, google: GoogleStandin, clock: Clock
) -> None:
    await verifier.verify(GoogleLogin(id_token=google.sign_in()))
    google.rotate()
    login = GoogleLogin(id_token=google.sign_in())
    for _ in range(10):
        with pytest.raises(InvalidGoogleTokenError):
            await verifier.verify(login)
    assert google.fetches == 1
    clock.now = 60
    assert (await verifier.verify(login)).subject
    for _ in range(10):
        with pytest.raises(InvalidGoogleTokenError):
            await verifier.verify(GoogleLogin(id_token=google.forged()["key never published"]))
    assert google.fetches == 2


async def test_a_new_key_that_google_cannot_be_asked_about_is_503_and_known_ones_work(
    verifier: Google, google: GoogleStandin, clock: Clock
) -> None:
    known = GoogleLogin(id_token=google.sign_in())
    await verifier.verify(known)
    google.rotate()
    google.trouble(Reply(status=500))
    clock.now = 60
    with pytest.raises(GoogleUnavailableError):
        await verifier.verify(GoogleLogin(id_token=google.sign_in()))
    assert (await verifier.verify(known)).subject
