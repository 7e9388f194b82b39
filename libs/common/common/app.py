"""The app factory: what every service is before it adds a route of its own."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlmodel import select

from common.db import Sessions, create_engine, session_factory
from common.error_handlers import install_error_handlers
from common.http import http_client
from common.identity import Verifier
from common.logs import configure_logging
from common.methods import HeadAsGet
from common.public_keys import http_key_source
from common.redis import redis_client
from common.revocations import Revocations, http_revocation_source
from common.settings import ServiceSettings
from common.telemetry import configure_tracing, instrument

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_SECONDS = 2.0

Status = Literal["ready", "degraded", "not_ready"]
# A readiness check returns nothing or a remark, and raises when the dependency is not usable.
Check = Callable[[], Awaitable[str | None]]
# A service's lifespan gets the app and the common state, and yields its own part of `request.state`;
# the key "checks" adds readiness checks by name, "advisory" names those that are shown but do not decide.
Lifespan = Callable[[FastAPI, Mapping[str, Any]], AbstractAsyncContextManager[dict[str, Any]]]


class CheckResult(BaseModel):
    """One dependency in `/readyz`."""

    ok: bool
    detail: str | None = None
    duration_ms: float


class Readiness(BaseModel):
    """Reply of `/readyz`."""

    status: Status
    checks: dict[str, CheckResult]


def create_app(
    name: str,
    settings: ServiceSettings,
    routers: Sequence[APIRouter],
    lifespan: Lifespan,
    *,
    docs_url: str | None = "/docs",
) -> FastAPI:
    """A FastAPI app with logs, traces, metrics, health, problem documents, and clients for what `settings` names.

    `request.state` holds `settings`, `verifier`, and as configured `sessions`, `cache_redis`, `state_redis`,
    `broker_redis`, merged with what `lifespan` yields; a service without a client secret yields its own `verifier`.
    `app.state.sessions` set before start replaces the engine. In development the API is described at `docs_url`.
    """
    configure_logging(service=name, level=settings.log_level, style=settings.log_format)
    configure_tracing(name, settings.otlp_endpoint)

    @asynccontextmanager
    async def whole_lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            checks: dict[str, Check] = {}
            state = await _common_state(name, settings, app, stack, checks)
            own = await stack.enter_async_context(lifespan(app, state))
            checks |= own.pop("checks", {})
            whole = {**state, **own, "checks": checks}
            revocations: Revocations = whole["verifier"].revocations
            # Last: auth's are in its database, other services' are read with a client of theirs.
            await stack.enter_async_context(revocations.followed())
            # Without the list nobody can be let in; with an old one only staff cannot.
            checks |= {"revocations": revocations.check_known, "revocations_fresh": revocations.check_fresh}
            whole["advisory"] = {"revocations_fresh", *own.get("advisory", ())}
            logger.info("started", extra={"env": settings.env})
            yield whole

    app = FastAPI(
        title=f"Dugout {name}",
        lifespan=whole_lifespan,
        docs_url=docs_url if settings.env == "development" else None,
        redoc_url=None,
        # A redirect to the path without its last slash would name this service's own address, to players too.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: _operation_id(name, route),
    )
    install_error_handlers(app)
    app.include_router(_health)
    for router in routers:
        app.include_router(router)
    instrument(app)
    app.add_middleware(HeadAsGet)  # around what measures, which looks for the route in its own scope
    return app


def _operation_id(service: str, route: APIRoute) -> str:
    """What generated clients call a route: by its function, unique over all services and their inner sides."""
    return f"{service}{'_internal' if route.path.startswith('/internal') else ''}_{route.name}"


async def _common_state(
    name: str, settings: ServiceSettings, app: FastAPI, stack: AsyncExitStack, checks: dict[str, Check]
) -> dict[str, Any]:
    state: dict[str, Any] = {"settings": settings}
    if settings.database_url:
        sessions: Sessions | None = getattr(app.state, "sessions", None)
        if sessions is None:
            engine = create_engine(
                settings.database_url.get_secret_value(),
                application=name,
                pool_size=settings.database_pool_size,
            )
            stack.push_async_callback(engine.dispose)
            sessions = session_factory(engine)
        state["sessions"] = sessions
        checks["postgres"] = _postgres_check(sessions)
    for kind in ("cache", "state", "broker"):
        if url := getattr(settings, f"{kind}_redis_url"):
            client = redis_client(url.get_secret_value())
            stack.push_async_callback(client.aclose)
            state[f"{kind}_redis"] = client
            checks[f"redis_{kind}"] = _redis_check(client)
    auth = await stack.enter_async_context(http_client(settings.auth_url, read_timeout=2.0, connections=4))
    state["auth_client"] = auth
    if settings.client_secret:
        read = http_revocation_source(auth, client_id=name, client_secret=settings.client_secret)
        state["verifier"] = Verifier(
            fetch_keys=http_key_source(auth), issuer=settings.issuer, audience=name, revocations=Revocations(read)
        )
    return state


def _postgres_check(sessions: Sessions) -> Check:
    async def check() -> None:
        async with sessions() as session:
            await session.exec(select(1))

    return check


def _redis_check(client: Redis) -> Check:
    async def check() -> None:
        await client.ping()

    return check


_health = APIRouter(include_in_schema=False)


@_health.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive: the process answers."""
    return {"status": "ok"}


@_health.get("/readyz")
async def readyz(request: Request, response: Response) -> Readiness:
    """Ready (200): all that decides answers; degraded (200): only what does not decide is away; else 503."""
    names = list(request.state.checks)
    results = await asyncio.gather(*(_run(name, request.state.checks[name]) for name in names))
    away = {name for name, result in zip(names, results, strict=True) if not result.ok}
    decides = away - request.state.advisory
    response.status_code = 503 if decides else 200
    status: Status = "not_ready" if decides else "degraded" if away else "ready"
    return Readiness(status=status, checks=dict(zip(names, results, strict=True)))


async def _run(name: str, check: Check) -> CheckResult:
    started = time.perf_counter()
    try:
        detail, ok = await asyncio.wait_for(check(), CHECK_TIMEOUT_SECONDS), True
    except Exception as error:  # noqa: BLE001 - a check may fail in any way; only the kind is shown, it may hold an address
        logger.warning("dependency not ready", extra={"dependency": name, "reason": type(error).__name__})
        detail, ok = type(error).__name__, False
    return CheckResult(ok=ok, detail=detail, duration_ms=round((time.perf_counter() - started) * 1000, 2))


@_health.get("/metrics")
async def metrics() -> Response:
    """Prometheus exposition of this process."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
