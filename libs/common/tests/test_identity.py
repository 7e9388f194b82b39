"""Which tokens open the door, and which of the many almost-right ones do not."""

import asyncio
import string
import time
from typing import Any

import httpx
import pytest
from jose import jwt

from common.errors import UnauthorizedError, UnavailableError
from common.identity import Verifier
from common.public_keys import http_key_source
from common.testing import ISSUER, Tokens, nothing_revoked


def verifier(tokens: Tokens, fetches: list[float]) -> Verifier:
    async def fetch() -> list[dict[str, Any]]:
        fetches.append(time.monotonic())
        return [tokens.public_jwk()]

    return Verifier(fetch_keys=fetch, issuer=ISSUER, audience="notes", revocations=nothing_revoked())


async def test_a_signed_in_player_is_known(client: httpx.AsyncClient, tokens: Tokens) -> None:
    response = await client.get("/me", headers=tokens.headers(role="viewer"))
    assert response.json()["role"] == "viewer"


async def test_without_a_token_nobody_is_known(client: httpx.AsyncClient) -> None:
    response = await client.get("/me")
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_roles_and_scopes_are_kept_apart(client: httpx.AsyncClient, tokens: Tokens) -> None:
    service = tokens.service_headers("reader", "notes", "notes:read")
    assert (await client.get("/ops", headers=tokens.headers())).status_code == 403
    assert (await client.get("/ops", headers=tokens.headers(role="viewer"))).status_code == 200
    assert (await client.get("/inside", headers=tokens.headers(role="admin"))).status_code == 403
    assert (await client.get("/inside", headers=service)).json() == {"client_id": "reader"}
    assert (await client.get("/me", headers=service)).status_code == 401
    wrong_scope = tokens.service_headers("reader", "notes", "notes:write")
    assert (await client.get("/inside", headers=wrong_scope)).status_code == 403
    other_audience = tokens.service_headers("reader", "rag", "notes:read")
    assert (await client.get("/inside", headers=other_audience)).status_code == 401


def respelt(token: str) -> str:
    """`token` with another last character that stands for the same bits of its signature."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


NOW = int(time.time())
FORGED_CLAIMS: dict[str, dict[str, Any]] = {
    "other audience": {"aud": "rag"},
    "other issuer": {"iss": "elsewhere"},
    "other kind": {"typ": "refresh"},
    "no kind": {"typ": None},
    "expired": {"exp": NOW - 60},
    "not yet valid": {"nbf": NOW + 3600},
    "issued in the future": {"iat": NOW + 3600},
    "unknown role": {"role": "root"},
    "subject is not a string": {"sub": 7},
    "expiry is a string": {"exp": "tomorrow"},
    "too long": {"locale": "x" * 5000},
}
FORGED_HEADERS: dict[str, dict[str, Any]] = {
    "unknown critical header": {"crit": ["b64"]},
    "key by address": {"jku": "https://attacker.example/keys"},
    "certificate by address": {"x5u": "https://attacker.example/cert"},
    "key in the token": {"jwk": {"kty": "RSA"}},
    "unknown key": {"kid": "other"},
}


@pytest.mark.parametrize("kind", FORGED_CLAIMS)
async def test_wrong_claims_are_refused(client: httpx.AsyncClient, tokens: Tokens, kind: str) -> None:
    response = await client.get("/me", headers=tokens.headers(**FORGED_CLAIMS[kind]))
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("kind", FORGED_HEADERS)
async def test_wrong_headers_are_refused(client: httpx.AsyncClient, tokens: Tokens, kind: str) -> None:
    right = jwt.get_unverified_claims(tokens.player())
    forged = tokens.sign(right, FORGED_HEADERS[kind])
    assert (await client.get("/me", headers={"Authorization": f"Bearer {forged}"})).status_code == 401


async def test_other_algorithms_and_broken_tokens_are_refused(client: httpx.AsyncClient, tokens: Tokens) -> None:
    good = tokens.player()
    header, body, signature = good.split(".")
    public = tokens.private_key.public_key().public_numbers().n.to_bytes(256, "big").hex()
    by_secret = jwt.encode(jwt.get_unverified_claims(good), public, "HS256", {"kid": "test-key"})
    unsigned = f"eyJhbGciOiJub25lIiwia2lkIjoidGVzdC1rZXkifQ.{body}."
    other_key = Tokens().player()
    for token in (
        by_secret,
        unsigned,
        other_key,
        f"{header}.{body}.",
        f"{header}.{body}.{signature[:-4]}AAAA",
        "x",
        "a.b.c",
        f"{good}==",
        respelt(good),
    ):
        response = await client.get("/me", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401, token


async def test_a_verified_token_ends_with_its_expiry(tokens: Tokens) -> None:
    door = verifier(tokens, [])
    token = tokens.player(exp=int(time.time()) - 20)  # inside the leeway, so verified, but not worth remembering
    await door.verify(token)
    claims = await door.verify(token)
    assert claims.exp < time.time()


async def test_without_any_key_the_door_is_shut_but_says_so(tokens: Tokens) -> None:
    async def no_keys() -> list[dict[str, Any]]:
        raise UnavailableError

    door = Verifier(fetch_keys=no_keys, issuer=ISSUER, audience="notes", revocations=nothing_revoked())
    with pytest.raises(UnavailableError):
        await door.verify(tokens.player())


async def test_what_a_dropped_key_has_signed_is_forgotten_with_it(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.public_keys.KEY_FETCH_INTERVAL_SECONDS", 0)
    other = Tokens()
    published = [tokens.public_jwk(), {**other.public_jwk(), "kid": "stolen"}]

    async def fetch() -> list[dict[str, Any]]:
        return published

    door = Verifier(fetch_keys=fetch, issuer=ISSUER, audience="notes", revocations=nothing_revoked())
    by_thief = other.sign(jwt.get_unverified_claims(other.player()), {"kid": "stolen"})
    await door.verify(by_thief)
    del published[1]
    for token in (tokens.sign({}, {"kid": "made-up"}), by_thief):  # the first one makes the door ask again
        with pytest.raises(UnauthorizedError):
            await door.verify(token)


async def test_a_token_in_use_ends_with_its_key_though_no_other_token_is_shown(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.public_keys.KEY_FETCH_INTERVAL_SECONDS", 0)
    published = [tokens.public_jwk()]

    async def fetch() -> list[dict[str, Any]]:
        return published

    door = Verifier(fetch_keys=fetch, issuer=ISSUER, audience="notes", revocations=nothing_revoked())
    token = tokens.player()
    await door.verify(token)
    published[:] = [{**Tokens().public_jwk(), "kid": "next"}]

    async def go_on() -> None:
        while True:
            await door.verify(token)
            await asyncio.sleep(0)

    with pytest.raises(UnauthorizedError):
        await asyncio.wait_for(go_on(), 2)


async def test_a_key_set_that_is_no_json_is_no_bug_of_ours(tokens: Tokens) -> None:
    async def busy(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<h1>busy</h1>")

    async with httpx.AsyncClient(transport=httpx.MockTransport(busy), base_url="http://auth") as auth:
        door = Verifier(
            fetch_keys=http_key_source(auth), issuer=ISSUER, audience="notes", revocations=nothing_revoked()
        )
        with pytest.raises(UnavailableError):
            await door.verify(tokens.player())
