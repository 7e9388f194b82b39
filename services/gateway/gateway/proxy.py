"""The data path: verify, limit, forward and stream, as one plain ASGI callable.

Not a FastAPI route: routing, validation and response classes would cost more than all that is done here.
"""

import logging
from collections.abc import Mapping

import httpx
from fastapi import Request
from starlette.types import Receive, Scope, Send

from common.errors import (
    AppError,
    BadRequestError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
    problem_response,
)
from common.identity import PlayerClaims, Verifier, bearer_token
from gateway.body import RequestBody
from gateway.connection import Connection, Outgoing
from gateway.headers import client_address, client_network, to_client, to_service
from gateway.rate_limit import Decision, RateLimiter
from gateway.routes import Route
from gateway.settings import Limit, Settings
from gateway.tracing import trace_headers
from gateway.upstream import Upstream, upstream_failures

logger = logging.getLogger(__name__)


class Proxy:
    """Answers by asking the service behind a route; `scope["route"]` is the matching row of the table, or None."""

    def __init__(
        self, settings: Settings, verifier: Verifier, limiter: RateLimiter, upstreams: Mapping[str, Upstream]
    ) -> None:
        self._limits = settings.limits
        self._trusted = settings.trusted_proxies
        self._verifier = verifier
        self._limiter = limiter
        self._upstreams = upstreams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry, for HTTP."""
        try:
            await self._answer(scope, receive, send)
        except AppError as error:
            await problem_response(Request(scope), error)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route | None = scope["route"]
        if route is None:
            raise NotFoundError
        headers = dict(scope["headers"])
        player = await self._player(route, headers.get(b"authorization"))
        client = client_address(scope, self._trusted)
        decision = await self._count(route, player, client)
        if not decision.admitted:
            raise decision.refusal()
        declared = headers.get(b"content-length")
        body = RequestBody(receive, cap=route.body_cap, seconds=route.body_seconds, declared=declared)
        async with body.ended_by_client():
            content = await body.content()
            outgoing = Outgoing(
                method=scope["method"],
                target=_target(scope),
                headers=to_service(scope, headers, client, self._trusted) + trace_headers(),
                body=content if isinstance(content, bytes) else aiter(content),
                content_length=None if b"transfer-encoding" in headers else declared,
                silence=route.read_timeout,
            )
            reply = await _ask(self._upstreams[route.service], outgoing)
            await _relay(reply, route, decision, send)

    async def _player(self, route: Route, authorization: bytes | None) -> PlayerClaims | None:
        """Who calls, where the route asks; raises UnauthorizedError."""
        if route.who == "none" or (route.who == "optional" and authorization is None):
            return None
        claims = await self._verifier.verify(bearer_token((authorization or b"").decode("latin-1")))
        if not isinstance(claims, PlayerClaims):
            raise UnauthorizedError
        return claims

    async def _count(self, route: Route, player: PlayerClaims | None, client: str) -> Decision:
        """Players have limits of their own where a token is required, elsewhere addresses have."""
        if route.who == "required" and player:
            limit: Limit = getattr(self._limits, route.limit)[player.plan]
            return await self._limiter.hit(route.limit, f"user:{player.sub}", limit)
        limit = getattr(self._limits, route.limit)
        return await self._limiter.hit(route.limit, f"ip:{client_network(client)}", limit)


def _target(scope: Scope) -> bytes:
    """Path and query as the client wrote them."""
    target: bytes = scope["raw_path"]
    if query := scope["query_string"]:
        target += b"?" + query
    if not target.isascii():
        raise BadRequestError
    return target


async def _ask(upstream: Upstream, outgoing: Outgoing) -> Connection:
    try:
        reply = await upstream.ask(outgoing)
    except httpx.HTTPError as error:
        logger.warning("upstream failed", extra={"upstream": upstream.name, "reason": str(error)})
        if isinstance(error, httpx.ConnectError):
            raise UnavailableError from error
        raise (UpstreamTimeoutError if isinstance(error, httpx.TimeoutException) else UpstreamError) from error
    if reply.status >= 600:
        reply.abort()
        raise UpstreamError
    return reply


async def _relay(reply: Connection, route: Route, decision: Decision, send: Send) -> None:
    """The reply, piece by piece as it comes."""
    headers = to_client(reply.headers) + decision.headers()
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        more = True
        while more:
            piece = await reply.read()
            more = not reply.complete
            await send({"type": "http.response.body", "body": piece, "more_body": more})
    except httpx.HTTPError as error:
        # To return without a last message makes the server cut the connection: nobody takes a part for the whole.
        upstream_failures.labels(route.service, "cut").inc()
        logger.warning("upstream cut its reply", extra={"upstream": route.service, "reason": str(error)})
    finally:
        reply.finish()
