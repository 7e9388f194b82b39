"""No forged token opens any door: not the gateway's, and not that of a service reached directly."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from common.http import ACTOR_REFUSED_HEADER
from common.identity import ACTOR_HEADER
from common.testing import Tokens

from .conftest import PLAYER, scopes_of
from .forger import Forger
from .forgeries import PLAYER_FORGERIES, SERVICE_FORGERIES

Doors = dict[str, httpx.AsyncClient]


class Door(NamedTuple):
    """A protected route of a service."""

    service: str
    method: str
    path: str


# One for each way in which a service asks who is calling.
FOR_PLAYERS = (
    Door("gateway", "GET", "/api/coach/games"),
    Door("auth", "GET", "/auth/me"),
    Door("coach", "GET", "/api/coach/games"),
    Door("admin", "GET", "/admin/games"),
)
# Who brings no token may pass here, since the service behind knows other ways to sign in; a token must be true.
OPTIONAL = Door("gateway", "GET", "/admin/games")
FOR_SERVICES = (
    Door("auth", "GET", "/internal/stats"),
    Door("coach", "GET", "/internal/games"),
    Door("rag", "GET", "/internal/documents"),
    Door("worker", "GET", "/internal/jobs"),
    Door("admin", "GET", f"/internal/users/{PLAYER}/export"),
)
FOR_ACTORS = (
    Door("auth", "GET", "/internal/keys"),
    Door("coach", "PUT", "/internal/games/any"),
    Door("rag", "DELETE", f"/internal/documents/{PLAYER}"),
    Door("worker", "POST", "/internal/uploads"),
)
ALL = FOR_PLAYERS + FOR_SERVICES + FOR_ACTORS


def player_claims(**changes: Any) -> dict[str, Any]:
    """Claims for which every door is open."""
    claims = {"aud": "dugout", "typ": "access", "sub": str(PLAYER), "role": "admin", "plan": "premium"}
    return {**claims, "sid": str(uuid4()), "epoch": 0, **changes}


def service_claims(audience: str) -> dict[str, Any]:
    """The same among services."""
    return {"aud": audience, "typ": "service", "sub": "admin", "scope": scopes_of(audience)}


def bearer(token: str) -> dict[str, bytes]:
    """Sent byte for byte, also what no text header could carry."""
    return {"Authorization": b"Bearer " + token.encode("latin-1")}


def actor(player: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same person's token, passed on by a service."""
    return {ACTOR_HEADER: player["Authorization"].removeprefix(b"Bearer ")}


async def knock(doors: Doors, door: Door, headers: Mapping[str, bytes | str]) -> httpx.Response:
    """Ask at `door`."""
    return await doors[door.service].request(door.method, door.path, headers=headers)


def assert_refused(response: httpx.Response, door: Door) -> None:
    """A 401 that says how to come in and nothing else."""
    assert response.status_code == 401, (door, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["cache-control"] == "no-store"
    document = response.json()
    assert document.pop("request_id") == response.headers["x-request-id"]
    assert document in (
        {
            "type": "urn:dugout:problem:unauthorized",
            "title": "Please sign in",
            "status": 401,
            "detail": detail,
            "instance": door.path,
            "code": "unauthorized",
        }
        for detail in ("Please sign in", "The token is not valid")
    ), door


async def test_the_true_token_opens_every_door(doors: Doors, tokens: Tokens) -> None:
    player = bearer(Forger(tokens, player_claims()).genuine())
    for door in (*FOR_PLAYERS, OPTIONAL):
        assert (await knock(doors, door, player)).status_code not in (401, 403), door
    for door in FOR_SERVICES + FOR_ACTORS:
        service = bearer(Forger(tokens, service_claims(door.service)).genuine())
        assert (await knock(doors, door, service | actor(player))).status_code not in (401, 403), door


@pytest.mark.parametrize("forgery", PLAYER_FORGERIES)
async def test_no_forged_token_makes_a_player(doors: Doors, tokens: Tokens, forgery: str) -> None:
    token = PLAYER_FORGERIES[forgery](Forger(tokens, player_claims()))
    for door in (*FOR_PLAYERS, OPTIONAL):
        assert_refused(await knock(doors, door, bearer(token)), door)


@pytest.mark.parametrize("forgery", SERVICE_FORGERIES)
async def test_no_forged_token_makes_a_service(doors: Doors, tokens: Tokens, forgery: str) -> None:
    for door in FOR_SERVICES:
        token = SERVICE_FORGERIES[forgery](Forger(tokens, service_claims(door.service)))
        assert_refused(await knock(doors, door, bearer(token)), door)


@pytest.mark.parametrize("forgery", PLAYER_FORGERIES)
async def test_no_service_acts_for_a_forged_person(doors: Doors, tokens: Tokens, forgery: str) -> None:
    forged = actor(bearer(PLAYER_FORGERIES[forgery](Forger(tokens, player_claims()))))
    for door in FOR_ACTORS:
        service = bearer(Forger(tokens, service_claims(door.service)).genuine())
        response = await knock(doors, door, service | forged)
        assert_refused(response, door)
        assert ACTOR_REFUSED_HEADER in response.headers  # or the service would think that its own token is bad


# Around a true token: what stands before it, after it, or in its place.
WRONG_AUTHORIZATIONS: dict[str, str] = {
    "nothing": "",
    "scheme only": "Bearer",
    "no scheme": "{token}",
    "Basic": "Basic {token}",
    "Digest": "Digest {token}",
    "Token": "Token {token}",
    "DPoP": "DPoP {token}",
    "scheme twice": "Bearer Bearer {token}",
    "scheme with a colon": "Bearer: {token}",
    "scheme with an equals sign": "Bearer={token}",
    "scheme in another word": "XBearer {token}",
    "two tokens": "Bearer {token} {token}",
    "two tokens in a list": "Bearer {token}, Bearer {token}",
    "parameter": 'Bearer token="{token}"',
    "parameter after it": "Bearer {token};admin=1",
    "a tab for the space": "Bearer\t{token}",
    "no space": "Bearer{token}",
}
RIGHT_AUTHORIZATIONS = ("Bearer {token}", "bearer {token}", "BEARER {token}", "Bearer   {token}")


@pytest.mark.parametrize("form", WRONG_AUTHORIZATIONS)
async def test_a_true_token_counts_only_as_a_bearers(doors: Doors, tokens: Tokens, form: str) -> None:
    for door in FOR_PLAYERS + FOR_SERVICES:
        claims = player_claims() if door in FOR_PLAYERS else service_claims(door.service)
        header = WRONG_AUTHORIZATIONS[form].format(token=Forger(tokens, claims).genuine())
        assert_refused(await knock(doors, door, {"Authorization": header}), door)


@pytest.mark.parametrize("form", RIGHT_AUTHORIZATIONS)
async def test_the_scheme_may_be_written_in_any_case(doors: Doors, tokens: Tokens, form: str) -> None:
    for door in FOR_PLAYERS:
        header = form.format(token=Forger(tokens, player_claims()).genuine())
        assert (await knock(doors, door, {"Authorization": header})).status_code not in (401, 403), door


@pytest.mark.parametrize("place", ["query", "cookie", "body", "actor", "other headers"])
async def test_a_true_token_in_another_place_is_none(doors: Doors, tokens: Tokens, place: str) -> None:
    token = Forger(tokens, player_claims()).genuine()
    headers = {
        "cookie": {"Cookie": f"access_token={token}; token={token}"},
        "actor": {ACTOR_HEADER: token},
        "other headers": {"X-Access-Token": token, "Proxy-Authorization": f"Bearer {token}", "X-Authorization": token},
    }.get(place, {})
    params = {"access_token": token, "token": token} if place == "query" else {}
    data = {"access_token": token} if place == "body" else None
    for door in FOR_PLAYERS + FOR_SERVICES:
        method = "GET" if data is None else door.method
        response = await doors[door.service].request(method, door.path, headers=headers, params=params, data=data)
        assert_refused(response, door)


async def test_kinds_of_token_are_kept_apart(doors: Doors, tokens: Tokens) -> None:
    player = Forger(tokens, player_claims()).genuine()
    for door in FOR_PLAYERS:
        service = Forger(tokens, service_claims(door.service)).genuine()
        assert_refused(await knock(doors, door, bearer(service)), door)
    for door in FOR_SERVICES + FOR_ACTORS:
        # A true token without the right: who it is, is known.
        assert (await knock(doors, door, bearer(player))).status_code == 403, door
        elsewhere = Forger(tokens, {**service_claims(door.service), "aud": "elsewhere"}).genuine()
        assert_refused(await knock(doors, door, bearer(elsewhere)), door)
        powerless = Forger(tokens, {**service_claims(door.service), "scope": "other:scope"}).genuine()
        assert (await knock(doors, door, bearer(powerless))).status_code == 403, door
    for door in FOR_ACTORS:
        service = Forger(tokens, service_claims(door.service)).genuine()
        assert_refused(await knock(doors, door, bearer(service) | actor(bearer(service))), door)


# What a client or a proxy could say of itself, were anybody to believe it.
CLAIMED = {
    "X-User-Id": str(PLAYER),
    "X-User-Role": "admin",
    "X-Forwarded-User": "admin",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
    "X-Forwarded-Prefix": "/internal",
    "X-Real-IP": "127.0.0.1",
    "X-Original-URL": "/healthz",
    "X-Rewrite-URL": "/healthz",
    "X-HTTP-Method-Override": "HEAD",
    "Dugout-User": str(PLAYER),
    "Dugout-Role": "admin",
    "Dugout-Scope": "*",
    "Dugout-Service": "admin",
    "Forwarded": "for=127.0.0.1;by=gateway",
}


async def test_headers_that_claim_an_identity_change_nothing(doors: Doors, tokens: Tokens) -> None:
    for door in ALL:
        assert_refused(await knock(doors, door, CLAIMED), door)
    player = bearer(Forger(tokens, player_claims(role="player")).genuine())
    for door in FOR_SERVICES + FOR_ACTORS:
        assert (await knock(doors, door, player | CLAIMED)).status_code == 403, door
    me = await doors["auth"].get(
        "/auth/me", headers=bearer(Forger(tokens, player_claims(sub=str(uuid4()))).genuine()) | CLAIMED
    )
    assert me.status_code == 401  # an account that is not there, whoever the headers name
    assert (await doors["admin"].get("/admin/games", headers=player | CLAIMED)).status_code == 403
