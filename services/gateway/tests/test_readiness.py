"""Tests of `gateway.readiness`: all is shown, and only what lets people in decides."""

import httpx
import pytest
from pydantic import SecretStr

from common.testing import Tokens, listening
from devstack.launch import free_port

from .conftest import OpenGateway, ScriptedService


async def test_ready_names_all_it_depends_on(gateway: httpx.AsyncClient) -> None:
    response = await gateway.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "ready")
    assert {name for name, check in response.json()["checks"].items() if check["ok"]} == {
        "auth_keys",
        "redis_state",
        "revocations",
        "revocations_fresh",
        "auth",
        "coach",
        "admin",
    }


async def test_a_service_or_redis_that_is_down_is_named_but_does_not_close_the_door(
    open_gateway: OpenGateway, service: ScriptedService
) -> None:
    service.is_ready = False
    gateway = await open_gateway(
        coach_url=f"http://127.0.0.1:{free_port()}",
        state_redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"),
    )
    response = await gateway.get("/readyz")
    assert response.status_code == 200
    checks = response.json()["checks"]
    assert {name for name, check in checks.items() if not check["ok"]} == {"redis_state", "auth", "coach", "admin"}
    assert (checks["coach"]["detail"], checks["auth"]["detail"]) == ("ConnectError", "HTTPStatusError")


async def test_a_gateway_that_never_had_keys_is_not_ready(open_gateway: OpenGateway, tokens: Tokens) -> None:
    gateway = await open_gateway(auth_url=f"http://127.0.0.1:{free_port()}")
    response = await gateway.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["auth_keys"]["ok"] is False
    refused = await gateway.get("/api/coach/games", headers=tokens.headers())
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")


async def test_keys_once_fetched_keep_the_door_open_while_auth_is_away(
    open_gateway: OpenGateway, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.readiness.REMEMBERED_SECONDS", 0)
    async with listening(ScriptedService(tokens)) as auth_url:
        gateway = await open_gateway(auth_url=auth_url)
        assert (await gateway.get("/readyz")).status_code == 200
    response = await gateway.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert [response.json()["checks"][name]["ok"] for name in ("auth_keys", "auth")] == [True, False]
    assert (await gateway.get("/api/coach/games", headers=tokens.headers())).status_code == 200


async def test_asking_often_is_no_load_on_the_services(gateway: httpx.AsyncClient, service: ScriptedService) -> None:
    for _ in range(10):
        assert (await gateway.get("/readyz")).status_code == 200
    assert service.key_fetches == 1
