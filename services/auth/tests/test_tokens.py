"""Access tokens, seen from the services that verify them."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from jose import jwt

from common.claims import PlayerClaims
from common.identity import Verifier
from common.public_keys import http_key_source
from common.testing import nothing_revoked

Login = Callable[..., Awaitable[dict[str, Any]]]


async def test_another_service_reads_the_agreed_claims(client: httpx.AsyncClient, log_in: Login) -> None:
    signed_in = await log_in(role="viewer", plan="premium")
    coach = Verifier(
        fetch_keys=http_key_source(client), issuer="dugout", audience="coach", revocations=nothing_revoked()
    )
    claims = await coach.verify(signed_in["access_token"])
    assert isinstance(claims, PlayerClaims)
    assert (claims.iss, claims.aud, claims.typ) == ("dugout", "dugout", "access")
    assert (claims.sub, claims.role, claims.plan) == (signed_in["user"]["id"], "viewer", "premium")
    assert claims.locale is None
    assert claims.exp - claims.iat == signed_in["expires_in"] == 600
    assert claims.nbf == claims.iat <= time.time()


async def test_a_token_names_its_key_and_nothing_it_need_not(client: httpx.AsyncClient, log_in: Login) -> None:
    token = (await log_in())["access_token"]
    (key,) = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": key["kid"]}
    expected = {"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "typ", "role", "plan", "sid", "epoch"}
    assert jwt.get_unverified_claims(token).keys() == expected


async def test_a_token_carries_the_language_the_player_chose(client: httpx.AsyncClient, log_in: Login) -> None:
    headers = {"Authorization": f"Bearer {(await log_in())['access_token']}"}
    await client.patch("/auth/me", json={"locale": "ko"}, headers=headers)
    assert jwt.get_unverified_claims((await log_in())["access_token"])["locale"] == "ko"
