"""The gateway, wired: pages of its own, upstreams, proxy."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from common.app import create_app
from common.identity import Verifier
from common.public_keys import http_key_source
from common.revocations import Revocations, http_revocation_source
from gateway import docs_page
from gateway.front import FrontDoor, LocalDoor
from gateway.metrics_server import serve_locally
from gateway.openapi import PublicApi
from gateway.proxy import Proxy
from gateway.rate_limit import RateLimiter
from gateway.readiness import Drain, readiness_checks
from gateway.settings import Settings
from gateway.upstream import client_of, open_upstream


def build(settings: Settings | None = None, drain: Drain | None = None) -> FrontDoor:
    """The gateway as an ASGI app; its server says by `drain` that it is about to stop."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        urls = {"auth": settings.auth_url, "coach": settings.coach_url, "admin": settings.admin_url}
        async with AsyncExitStack() as stack:
            upstreams = {
                name: await stack.enter_async_context(open_upstream(name, addresses))
                for name, addresses in urls.items()
            }
            clients = {name: client_of(upstream) for name, upstream in upstreams.items()}
            read = http_revocation_source(clients["auth"], client_id="gateway", client_secret=settings.client_secret)
            verifier = Verifier(
                fetch_keys=http_key_source(clients["auth"]),
                issuer=settings.issuer,
                audience="gateway",
                revocations=Revocations(read),
            )
            api = PublicApi(clients, state["state_redis"])
            app.openapi = api.document  # type: ignore[method-assign] # FastAPI's own way to replace it
            refresh = asyncio.create_task(api.keep_fresh(settings.openapi_refresh_seconds))
            stack.callback(refresh.cancel)
            limiter = RateLimiter(settings, state["state_redis"])
            stack.push_async_callback(limiter.aclose)
            if settings.metrics_port:
                await stack.enter_async_context(
                    serve_locally(LocalDoor(app), settings.metrics_host, settings.metrics_port)
                )
            yield {
                "verifier": verifier,
                "proxy": Proxy(settings, verifier, limiter, upstreams),
                "checks": readiness_checks(verifier.keys, state["state_redis"], clients),
                "advisory": {"redis_state", *upstreams},
            }

    # The floor's own client of auth knows one address; the verifier above tries all of them.
    floor = settings.model_copy(update={"auth_url": settings.auth_url.partition(",")[0]})
    return FrontDoor(
        settings, drain or Drain(), create_app("gateway", floor, [docs_page.router], lifespan, docs_url=None)
    )
