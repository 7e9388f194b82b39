"""The front door: the gateway's own pages, the proxy for all else, and what every reply and every trace gets."""

from fastapi import Request
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import NotFoundError, problem_response
from common.telemetry import RequestMiddleware
from gateway import docs_page
from gateway.headers import security_headers
from gateway.readiness import Drain
from gateway.routes import find_route
from gateway.settings import Settings
from gateway.tracing import traced

# Anything else of the app, /metrics above all, is not public.
PUBLIC_PAGES = frozenset(
    {"/healthz", "/readyz", "/openapi.json", "/docs", *(f"/docs/{name}" for name in docs_page.FILES)}
)
LOCAL_PAGES = frozenset({"/healthz", "/metrics"})

# In place of all checks.
DRAINING = {"status": "draining", "checks": {}}

ALLOWED_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ALLOWED_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID", "traceparent")
EXPOSED_HEADERS = (
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Policy",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "X-Request-ID",
)


class FrontDoor:
    """The public ASGI app; the lifespan of `pages`, a FastAPI app, leaves the proxy in `scope["state"]`."""

    def __init__(self, settings: Settings, drain: Drain, pages: ASGIApp) -> None:
        self._drain = drain
        self._lifespan = pages
        self._pages = _cors(pages, settings.cors_origins)
        routed = RequestMiddleware(_cors(_proxied, settings.cors_origins))
        self._routed = traced(routed, exported=settings.otlp_endpoint is not None)
        self._draining = RequestMiddleware(_draining)
        self._hardening = security_headers(https_only=settings.env != "development")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._hardening]
            await send(message)

        if self._drain.begun and scope["path"] == "/readyz":
            await self._draining(scope, receive, send_hardened)
        elif scope["path"] in PUBLIC_PAGES:
            await self._pages(scope, receive, send_hardened)
        else:
            # `common.telemetry` takes its label from here, as from a route of FastAPI.
            scope["route"] = find_route(scope["path"], scope["raw_path"].decode("latin-1"))
            await self._routed(scope, receive, send_hardened)


class LocalDoor:
    """Health and metrics, for the port that only this machine reaches."""

    def __init__(self, pages: ASGIApp) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry, for HTTP."""
        if scope["path"] in LOCAL_PAGES:
            await self._pages(scope, receive, send)
        else:
            await problem_response(Request(scope), NotFoundError())(scope, receive, send)


async def _draining(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(DRAINING, 503)(scope, receive, send)


async def _proxied(scope: Scope, receive: Receive, send: Send) -> None:
    await scope["state"]["proxy"](scope, receive, send)


def _cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Lets pages of these origins call; tokens travel in a header, so no cookie needs to."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=ALLOWED_METHODS,
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
    )
