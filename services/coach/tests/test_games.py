"""Games: what players see, and what admins set through the admin service."""

from typing import Any

import httpx
import pytest

from common.db import uuid7
from common.identity import ACTOR_HEADER
from common.testing import Tokens

from .conftest import GAME
from .test_ask import ask


@pytest.fixture
def admin(tokens: Tokens) -> dict[str, str]:
    """The admin service, calling for an admin."""
    return tokens.service_headers("admin", "coach", "coach:games") | {ACTOR_HEADER: tokens.player(role="admin")}


def settings_of(slug: str, /, **changes: Any) -> dict[str, Any]:
    sample = {"ko": ["궁수를 어떻게 이겨?"], "en": ["How do I beat archers?"]}
    return GAME | {"slug": slug, "model": None, "cross_lingual": True, "sample_questions": sample} | changes


async def put(client: httpx.AsyncClient, headers: dict[str, str], slug: str, /, **changes: Any) -> httpx.Response:
    return await client.put(f"/internal/games/{slug}", json=settings_of(slug, **changes), headers=headers)


async def test_a_game_that_an_admin_sets_can_be_asked_about_at_once(
    client: httpx.AsyncClient, admin: dict[str, str], player: dict[str, str]
) -> None:
    slug = f"game-{uuid7()}"
    response = await put(client, admin, slug)
    assert response.status_code == 200
    assert response.json()["slug"] == slug
    assert (await ask(client, player, slug)).json()["patch"] == "1.16.9"
    await put(client, admin, slug, patch="1.18.0")
    assert (await ask(client, player, slug)).json()["patch"] == "1.18.0"


async def test_players_see_languages_patch_and_context_but_no_model(
    client: httpx.AsyncClient, player: dict[str, str], admin: dict[str, str]
) -> None:
    slug = f"game-{uuid7()}"
    await put(client, admin, slug, model="gpt-4o")
    games = (await client.get("/api/coach/games", headers=player)).json()["games"]
    (game,) = [game for game in games if game["slug"] == slug]
    assert game == {
        "slug": slug,
        "titles": GAME["titles"],
        "locales": ["ko", "en"],
        "patch": "1.16.9",
        "context": GAME["context"],
        "sample_questions": {"ko": ["궁수를 어떻게 이겨?"], "en": ["How do I beat archers?"]},
    }


async def test_games_need_a_player(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/coach/games")).status_code == 401


async def test_the_operator_reads_back_what_was_set(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    slug = f"game-{uuid7()}"
    await put(client, admin, slug, model="gpt-4o")
    games = (await client.get("/internal/games", headers=admin)).json()["games"]
    (game,) = [game for game in games if game["slug"] == slug]
    assert game["model"] == "gpt-4o"
    assert {name: value for name, value in game["parameters"].items() if value is not None} == GAME["parameters"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "another"}, "body.slug"),
        ({"template": "no-such-template"}, "body.template"),
        ({"locales": []}, "body.locales"),
        ({"locales": ["fr"]}, "body.locales.0"),
        ({"titles": {"en": "One language only"}}, "body"),
        ({"parameters": {"temperature": 3}}, "body.parameters.temperature"),
        ({"parameters": {"messages": []}}, "body.parameters.messages"),
        ({"context": {"shared": {"side": ["a"]}, "private": {"side": {}}}}, "body.context"),
    ],
)
async def test_a_game_that_could_not_be_asked_about_is_refused(
    client: httpx.AsyncClient, admin: dict[str, str], changes: dict[str, Any], field: str
) -> None:
    response = await put(client, admin, f"game-{uuid7()}", **changes)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_only_an_admin_behind_the_admin_service_sets_games(client: httpx.AsyncClient, tokens: Tokens) -> None:
    service = tokens.service_headers("admin", "coach", "coach:games")
    reader = tokens.service_headers("admin", "coach", "coach:read")
    admin = {ACTOR_HEADER: tokens.player(role="admin")}
    for headers, status in (
        (tokens.headers(role="admin"), 403),
        (reader | admin, 403),
        (service, 401),
        (service | {ACTOR_HEADER: tokens.player(role="viewer")}, 403),
        (service | admin, 200),
    ):
        assert (await put(client, headers, f"game-{uuid7()}")).status_code == status
