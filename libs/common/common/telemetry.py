"""What every request leaves behind: an id, a trace, one log line, and its time in a histogram."""

import logging
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common import logs
from common.db import uuid7
from common.errors import AppError, accept_language, problem_response

logger = logging.getLogger("request")

# nginx's status for the case; the log and the metrics alone see it.
CLIENT_LEFT = 499

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")
# Asked all the time, and nobody's errand.
QUIET_PATHS = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/internal/revocations")

request_seconds = Histogram(
    "http_server_request_duration_seconds",
    "Time from the request's first byte to the reply's last",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
unexpected_errors = Counter("http_server_unexpected_errors_total", "Requests that ended in a bug of ours", ["route"])

_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def configure_tracing(service: str, otlp_endpoint: str | None) -> None:
    """Make this process's tracer provider; without an endpoint spans only lend their ids to the logs."""
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if otlp_endpoint:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{otlp_endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)


def instrument(app: FastAPI) -> None:
    """Add spans (outermost) and `RequestMiddleware` to an app."""
    app.add_middleware(RequestMiddleware)
    FastAPIInstrumentor.instrument_app(
        app,
        excluded_urls=",".join(QUIET_PATHS),
        exclude_spans=["receive", "send"],
        server_request_hook=_without_query,
    )


def _without_query(span: trace.Span, scope: Scope) -> None:
    """A query may hold what somebody looks for, such as a player's address."""
    span.set_attribute("http.url", scope["path"])


class RequestMiddleware:
    """Gives a request its id, measures and logs it, and turns an unexpected exception into a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _incoming_id(headers) or str(uuid7())
        context = logs.request_id.set(request_id)
        language = accept_language.set(headers.get(b"accept-language", b"").decode("latin-1"))
        started, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = status or CLIENT_LEFT  # in the middle of its body, and nobody is there to be answered
        except Exception:
            unexpected_errors.labels(_route(scope)).inc()
            logger.exception("unexpected error")
            if status:
                raise  # headers are out: cut the connection rather than end the body as if it were whole
            await problem_response(Request(scope), AppError())(scope, receive, send_with_id)
        finally:
            record_request(scope, status, time.perf_counter() - started)
            logs.request_id.reset(context)
            accept_language.reset(language)


def record_request(scope: Scope, status: int, seconds: float) -> None:
    """One observation and one log line; labels are route templates, so made-up paths add no series."""
    route = _route(scope)
    method = scope["method"] if scope["method"] in _KNOWN_METHODS else "OTHER"
    _timer(method, route, status).observe(seconds)
    level = logging.DEBUG if route in QUIET_PATHS else logging.INFO
    extra: dict[str, Any] = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
    }
    logger.log(level, "request", extra=extra)


@lru_cache(maxsize=1024)
def _timer(method: str, route: str, status: int) -> Histogram:
    return request_seconds.labels(method, route, str(status))


def _route(scope: Scope) -> str:
    """The route template (`/admin/jobs/{id}`), or `unmatched`."""
    if scope["path"] in QUIET_PATHS:  # FastAPI's own page for the document is no route of ours
        return str(scope["path"])
    return str(getattr(scope.get("route"), "path", None) or scope.get("route_template") or "unmatched")


def _incoming_id(headers: Mapping[bytes, bytes]) -> str | None:
    text = headers.get(b"x-request-id", b"").decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else None
