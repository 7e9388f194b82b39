"""What the app is in which environment."""

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from auth.app import build
from auth.settings import Settings
from common.db import Sessions
from common.testing import running

from .conftest import Login


def variant(settings: Settings, **changes: object) -> Settings:
    return Settings(**{**dict(settings), **changes})


@pytest.mark.parametrize("env", ["staging", "production"])
async def test_development_sign_in_is_absent_outside_development(
    settings: Settings, sessions: Sessions, env: str
) -> None:
    app = build(variant(settings, env=env))
    async with running(app, sessions=sessions) as client:
        response = await client.post("/auth/dev/login", json={"email": "a@example.com"})
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "/auth/dev/login" in build(settings).openapi()["paths"]
    assert "/auth/dev/login" not in app.openapi()["paths"]


@pytest.mark.parametrize(
    "changes",
    [
        {"service_secrets": {"coach": SecretStr("change-me")}},
        {"service_secrets": {"coach": SecretStr("short")}},
        {"key_encryption_key": SecretStr("change-me-change-me-change-me")},
    ],
)
def test_production_refuses_example_and_short_secrets(settings: Settings, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        variant(settings, env="production", **changes)


async def test_start_refuses_a_secret_for_an_unknown_client(settings: Settings, sessions: Sessions) -> None:
    app = build(variant(settings, service_secrets={"ghost": SecretStr("a-secret-of-nobody")}))
    with pytest.raises(ValueError, match="unknown clients: ghost"):
        async with running(app, sessions=sessions):
            pass


async def test_who_signed_in_by_name_alone_is_out_once_development_ends(
    client: httpx.AsyncClient, log_in: Login, sessions: Sessions, settings: Settings
) -> None:
    held = (await log_in(role="admin"))["refresh_token"]
    async with running(build(variant(settings, env="production")), sessions=sessions) as production:
        response = await production.post("/auth/refresh", json={"refresh_token": held})
    assert (response.status_code, response.json()["code"]) == (401, "invalid_refresh_token")
    assert (await client.post("/auth/refresh", json={"refresh_token": held})).status_code == 200
