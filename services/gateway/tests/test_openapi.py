"""Tests of `gateway.openapi`: one document of what is public, with no name that means two things."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from common.redis import redis_client
from common.testing import Tokens, listening
from devstack.launch import free_port
from gateway import upstream
from gateway.openapi import merge, public_part

from .conftest import OpenGateway, ScriptedService


def operation(schema: str) -> dict[str, Any]:
    """A GET whose reply is `schema`."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"get": {"responses": {"200": {"description": "OK", "content": content}}}}


def reply_schema(document: dict[str, Any], path: str) -> str:
    """The name of the schema that a path of `operation` replies with."""
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    return str(content["application/json"]["schema"]["$ref"].rpartition("/")[2])


def model(**properties: str) -> dict[str, Any]:
    """An object whose properties are of other models."""
    return {"properties": {name: {"$ref": f"#/components/schemas/{of}"} for name, of in properties.items()}}


COACH = {
    "paths": {
        "/api/coach/games": operation("Page"),
        "/internal/games": operation("Secret"),
        "/admin/x": operation("Page"),
    },
    "components": {
        "schemas": {"Page": model(item="Item"), "Item": {"title": "Game"}, "Secret": {}, "Problem": {"title": "P"}},
        "securitySchemes": {"HTTPBearer": {"type": "http"}},
    },
}
ADMIN = {
    "paths": {"/admin/jobs": operation("Page"), "/admin/oops": operation("Problem"), "/retrieve": operation("Item")},
    "components": {
        "schemas": {"Page": model(item="Item"), "Item": {"title": "Job"}, "Problem": {"title": "P"}},
        "securitySchemes": {"HTTPBearer": {"type": "http"}},
    },
}


def test_only_what_the_table_leads_to_is_shown() -> None:
    part = public_part("coach", COACH)
    assert part["paths"].keys() == {"/api/coach/games"}
    assert part["components"].keys() == {
        ("schemas", "Page"),
        ("schemas", "Item"),
        ("schemas", "Problem"),
        ("securitySchemes", "HTTPBearer"),
    }


def test_what_the_gateway_says_itself_is_shown_on_every_route() -> None:
    responses = public_part("coach", COACH)["paths"]["/api/coach/games"]["get"]["responses"]
    assert responses.keys() == {"200", "400", "408", "413", "414", "429", "431", "502", "503", "504"}
    assert responses["429"]["headers"].keys() >= {"Retry-After", "RateLimit-Reset"}


def test_a_path_that_varies_may_be_one_that_leads_nowhere() -> None:
    document = {**COACH, "paths": {"/api/coach/answers/{id}": operation("Page")}}
    assert "404" in public_part("coach", document)["paths"]["/api/coach/answers/{id}"]["get"]["responses"]


def test_a_name_with_two_meanings_gets_its_services_name_and_so_does_what_refers_to_it() -> None:
    merged = merge({"coach": public_part("coach", COACH), "admin": public_part("admin", ADMIN)})
    schemas = merged["components"]["schemas"]
    assert schemas.keys() == {"CoachPage", "CoachItem", "AdminPage", "AdminItem", "Problem"}
    assert reply_schema(merged, "/api/coach/games") == "CoachPage"
    assert reply_schema(merged, "/admin/jobs") == "AdminPage"
    assert reply_schema(merged, "/admin/oops") == "Problem"
    assert schemas["AdminPage"]["properties"]["item"]["$ref"] == "#/components/schemas/AdminItem"
    assert schemas["CoachItem"] == {"title": "Game"}
    assert merged["components"]["securitySchemes"].keys() == {"HTTPBearer"}


def test_operations_are_grouped_by_service() -> None:
    merged = merge({"coach": public_part("coach", COACH)})
    assert merged["paths"]["/api/coach/games"]["get"]["tags"] == ["coach"]


async def paths_of(gateway: httpx.AsyncClient, expected: set[str]) -> set[str]:
    """The paths of the document, once the refresh in the background has them."""
    for _ in range(100):
        shown = set((await gateway.get("/openapi.json")).json()["paths"])
        if shown == expected:
            break
        await asyncio.sleep(0.02)
    return shown


async def test_a_service_that_goes_down_keeps_its_routes_and_a_new_one_adds_its_own(
    open_gateway: OpenGateway, tokens: Tokens, service: ScriptedService, clean_redis: None
) -> None:
    coach = ScriptedService(tokens)
    coach.openapi = COACH
    async with listening(coach) as coach_url:
        gateway = await open_gateway(coach_url=coach_url, openapi_refresh_seconds=0.05)
        assert await paths_of(gateway, {"/api/coach/games"}) == {"/api/coach/games"}
    service.openapi = ADMIN
    both = {"/api/coach/games", "/admin/jobs", "/admin/oops"}
    assert await paths_of(gateway, both) == both


async def test_a_changed_document_is_shown_without_a_new_start(
    open_gateway: OpenGateway, service: ScriptedService, clean_redis: None
) -> None:
    service.openapi = ADMIN
    gateway = await open_gateway(openapi_refresh_seconds=0.05)
    await paths_of(gateway, {"/admin/jobs", "/admin/oops"})
    service.openapi = {**ADMIN, "paths": {"/admin/new": operation("Page")}}
    assert await paths_of(gateway, {"/admin/new"}) == {"/admin/new"}


async def test_a_document_without_sense_replaces_none(
    open_gateway: OpenGateway, tokens: Tokens, service: ScriptedService, clean_redis: None
) -> None:
    coach = ScriptedService(tokens)
    coach.openapi, service.openapi = COACH, ADMIN
    async with listening(coach) as coach_url:
        gateway = await open_gateway(coach_url=coach_url, openapi_refresh_seconds=0.05)
        await paths_of(gateway, {"/api/coach/games", "/admin/jobs", "/admin/oops"})
        coach.openapi = {"paths": {"/api/coach/new": {"get": {}}}}
        service.openapi = {**ADMIN, "paths": {"/admin/new": operation("Page")}}
        both = {"/api/coach/games", "/admin/new"}
        assert await paths_of(gateway, both) == both


async def test_a_gateway_that_starts_while_a_service_is_down_shows_its_routes(
    open_gateway: OpenGateway, service: ScriptedService, clean_redis: None
) -> None:
    service.openapi = ADMIN
    shown = {"/admin/jobs", "/admin/oops"}
    await paths_of(await open_gateway(), shown)
    restarted = await open_gateway(admin_url=f"http://127.0.0.1:{free_port()}")
    assert await paths_of(restarted, shown) == shown


async def test_what_redis_remembers_wrongly_hides_no_other_service(
    open_gateway: OpenGateway, service: ScriptedService, redis_urls: dict[str, str], clean_redis: None
) -> None:
    async with redis_client(redis_urls["state"]) as redis:
        for name, seen in (("auth", "no JSON"), ("admin", '{"paths": {"/admin/jobs": {"get": {}}}}')):
            await redis.set(f"gateway:openapi:{name}", seen)
    service.openapi = COACH
    away = f"http://127.0.0.1:{free_port()}"
    gateway = await open_gateway(admin_url=away, auth_url=away)
    assert await paths_of(gateway, {"/api/coach/games"}) == {"/api/coach/games"}


async def test_a_service_whose_document_never_ends_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, open_gateway: OpenGateway, service: ScriptedService, clean_redis: None
) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.02)

    monkeypatch.setattr(upstream, "OWN_CALLS_SECONDS", 0.2)
    service.openapi = COACH
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        gateway = await open_gateway(admin_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await paths_of(gateway, {"/api/coach/games"}) == {"/api/coach/games"}


async def test_no_service_at_all_still_gives_a_document(open_gateway: OpenGateway, clean_redis: None) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    gateway = await open_gateway(env="production", auth_url=away, coach_url=away, admin_url=away)
    document = (await gateway.get("/openapi.json")).json()
    assert (document["paths"], document["openapi"]) == ({}, "3.1.0")


async def test_the_page_brings_all_that_it_loads(gateway: httpx.AsyncClient) -> None:
    page = await gateway.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for address in loaded:
        if address != "data:,":
            file = await gateway.get(address)
            assert file.status_code == 200, address
            assert "max-age" in file.headers["cache-control"]
    assert "<script>" not in page.text
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert (await gateway.get("/docs/else")).status_code == 404
