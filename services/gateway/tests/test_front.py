"""Tests of `gateway.front` and `app`: what is public, what every reply says, and the local port."""

import asyncio

import httpx
import pytest

from devstack.launch import free_port

from .conftest import OpenGateway, ScriptedService

GAMES = "/api/coach/games"


async def test_metrics_are_not_public(gateway: httpx.AsyncClient, service: ScriptedService) -> None:
    for path in ("/metrics", "/metrics/", "/redoc", "/docs/oauth2-redirect", "/retrieve", "/internal/token"):
        response = await gateway.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), path
    assert service.requests == []


async def test_metrics_are_on_a_local_port_of_their_own(open_gateway: OpenGateway, signed_in: dict[str, str]) -> None:
    port = free_port()
    gateway = await open_gateway(metrics_port=port)
    await gateway.get(f"{GAMES}/anything", headers=signed_in)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as local:
        exposition = (await local.get("/metrics")).text
        assert (await local.get("/healthz")).json() == {"status": "ok"}
        assert (await local.get(GAMES)).status_code == 404
    assert 'http_server_request_duration_seconds_count{method="GET",route="/api/coach/*",status="200"}' in exposition
    assert "anything" not in exposition


async def test_made_up_paths_add_no_series(open_gateway: OpenGateway, signed_in: dict[str, str]) -> None:
    port = free_port()
    gateway = await open_gateway(metrics_port=port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as local:

        async def series() -> int:
            return len((await local.get("/metrics")).text.splitlines())

        async def walk(word: str) -> None:
            for path in (f"/{word}", f"{GAMES}/{word}", f"/admin/{word}"):
                await gateway.get(path, headers=signed_in)

        await walk("first")
        await series()
        before = await series()
        for number in range(20):
            await walk(f"path-{number}")
        assert await series() == before


@pytest.mark.parametrize(("env", "has_hsts"), [("development", False), ("production", True)])
async def test_every_reply_is_hardened(
    open_gateway: OpenGateway, signed_in: dict[str, str], env: str, has_hsts: bool
) -> None:
    gateway = await open_gateway(env=env)
    for path in ("/healthz", "/nowhere", GAMES, "/openapi.json"):
        headers = (await gateway.get(path, headers=signed_in)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert ("strict-transport-security" in headers) is has_hsts
        assert len(headers["x-request-id"]) == 36


async def test_pages_of_listed_origins_may_call(open_gateway: OpenGateway, signed_in: dict[str, str]) -> None:
    gateway = await open_gateway(cors_origins=("https://play.example",))
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    asked = await gateway.options("/api/coach/ask", headers={**preflight, "Origin": "https://play.example"})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://play.example"
    replied = await gateway.get(GAMES, headers={**signed_in, "Origin": "https://play.example"})
    assert "RateLimit-Remaining" in replied.headers["access-control-expose-headers"]
    refused = await gateway.options("/api/coach/ask", headers={**preflight, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers


async def test_no_origin_may_call_by_default(gateway: httpx.AsyncClient, signed_in: dict[str, str]) -> None:
    response = await gateway.get(GAMES, headers={**signed_in, "Origin": "https://play.example"})
    assert "access-control-allow-origin" not in response.headers


async def test_two_hundred_callers_at_once_are_all_answered(
    gateway: httpx.AsyncClient, signed_in: dict[str, str]
) -> None:
    responses = await asyncio.gather(*(gateway.get(GAMES, headers=signed_in) for _ in range(200)))
    assert {response.status_code for response in responses} == {200}
