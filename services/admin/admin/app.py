"""Wires the ops API: one client per service, each with a token for that service only."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from admin import api, auth_api, internal
from admin.auth_clients import KeysClient, UsersClient
from admin.clients import AuthClient, CoachClient, RagClient, WorkerClient
from admin.settings import Settings
from common.app import create_app
from common.http import ServiceAuth, http_client


def build(settings: Settings | None = None) -> FastAPI:
    """The app, with settings from the environment unless given."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:

            async def client_of(callee: str, scope: str, url: str) -> httpx.AsyncClient:
                signed = ServiceAuth(
                    state["auth_client"],
                    client_id="admin",
                    client_secret=settings.client_secret,
                    audience=callee,
                    scope=scope,
                )
                return await stack.enter_async_context(http_client(url, connections=20, auth=signed))

            auth = await client_of("auth", "auth:read auth:users auth:keys", settings.auth_url)
            yield {
                "auth": AuthClient(auth),
                "users": UsersClient(auth),
                "keys": KeysClient(auth),
                "coach": CoachClient(await client_of("coach", "coach:read coach:games", settings.coach_url)),
                "rag": RagClient(await client_of("rag", "rag:documents", settings.rag_url)),
                "worker": WorkerClient(
                    await client_of("worker", "worker:ops", settings.worker_url), settings.upload_seconds
                ),
            }

    return create_app("admin", settings, [api.router, auth_api.router, internal.router], lifespan)
