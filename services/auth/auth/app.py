"""Auth's wiring: `uvicorn --factory auth.app:build`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from cryptography.fernet import Fernet
from fastapi import FastAPI

from auth import api, ops_api, revocations, service_clients
from auth.clients import Holder, open_holders
from auth.erasures import Erasures
from auth.google import google_client
from auth.housekeeping import keep_house
from auth.keys import open_key_ring
from auth.settings import Settings
from auth.tokens import TokenIssuer
from common.app import create_app
from common.background import in_background
from common.db import Sessions
from common.identity import Verifier
from common.revocations import Revocations


def build(settings: Settings | None = None) -> FastAPI:
    """The app; without `settings` they come from the environment."""
    settings = settings or Settings()
    routers = [api.router, api.keys_router, api.internal_router, ops_api.router]
    if settings.env == "development":
        routers.append(api.development_router)
    return create_app("auth", settings, routers, lifespan)


@asynccontextmanager
async def lifespan(_: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Keys first: nothing can be answered without one."""
    settings: Settings = state["settings"]
    encryption = Fernet(settings.key_encryption_key.get_secret_value())
    keys = await open_key_ring(state["sessions"], encryption)
    async with state["sessions"].begin() as session:
        await service_clients.store_secrets(session, settings.service_secrets)
    issuer = TokenIssuer(keys, issuer=settings.issuer, lifetime_seconds=settings.access_token_seconds)
    async with (
        in_background(keys.follow()),
        in_background(keep_house(state["sessions"])),
        google_client(
            certs_url=settings.google_certs_url,
            client_ids=settings.google_client_ids,
            timeout_seconds=settings.google_timeout_seconds,
        ) as google,
        open_holders(settings, issuer) as holders,
        _erasures(settings, state["sessions"], holders, encryption).pursued() as erasures,
    ):
        yield {
            "keys": keys,
            "encryption": encryption,
            "google": google,
            "token_issuer": issuer,
            "holders": holders,
            "erasures": erasures,
            # Auth verifies against its own keys and database; asking itself over HTTP would only add a way to fail.
            "verifier": Verifier(
                fetch_keys=keys.published,
                issuer=settings.issuer,
                audience="auth",
                revocations=Revocations(revocations.database_source(state["sessions"])),
            ),
        }


def _erasures(settings: Settings, sessions: Sessions, holders: list[Holder], encryption: Fernet) -> Erasures:
    return Erasures(
        sessions=sessions,
        holders=holders,
        seal=encryption,
        identity_key=settings.erasure_key,
        repeat_after=[timedelta(seconds=seconds) for seconds in settings.erasure_repeat_seconds],
    )
