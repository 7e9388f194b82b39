"""The trace of a request begins here, or goes on from the client's.

A span that nobody exports would cost as much as the limits do; without an exporter a request gets only the ids, which
is all that the log and the services behind need of it.
"""

import random

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.headers import Header

tracer = trace.get_tracer(__name__)

_propagator = TraceContextTextMapPropagator()
_PROPAGATED = (b"traceparent", b"tracestate")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def traced(app: ASGIApp, *, exported: bool) -> ASGIApp:
    """`app` inside a server span, or, where none is exported, inside the ids of one."""
    return _Recorded(app) if exported else _Identified(app)


def trace_headers() -> list[Header]:
    """What a service needs to go on with the trace."""
    ids = trace.get_current_span().get_span_context()
    parent = f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}".encode()
    if not ids.trace_state:
        return [(b"traceparent", parent)]
    return [(b"traceparent", parent), (b"tracestate", ids.trace_state.to_header().encode())]


class _Recorded:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry, for HTTP."""
        name = scope["route"].path if scope["route"] else "unmatched"
        attributes = {"http.request.method": scope["method"], "http.route": name}
        with tracer.start_as_current_span(
            f"{scope['method']} {name}", _parent(scope), SpanKind.SERVER, attributes
        ) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, send_traced)


class _Identified:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry, for HTTP."""
        parent = trace.get_current_span(_parent(scope)).get_span_context()
        ids = SpanContext(
            parent.trace_id if parent.is_valid else random.getrandbits(128) or 1,
            random.getrandbits(64) or 1,
            is_remote=False,
            trace_flags=parent.trace_flags if parent.is_valid else _SAMPLED,
            trace_state=parent.trace_state,
        )
        token = context.attach(trace.set_span_in_context(NonRecordingSpan(ids)))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


def _parent(scope: Scope) -> context.Context:
    """What the client says of its trace, if anything."""
    carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PROPAGATED}
    return _propagator.extract(carrier) if carrier else context.Context()
