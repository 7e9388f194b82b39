"""The data path: verify, limit, forward and stream, as one plain ASGI callable.

Not a FastAPI route: routing, validation and response classes would cost more than all that is done here.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import cache, partial

import httpx
from fastapi import Request
from starlette.types import Receive, Scope, Send

from common.claims import PlayerClaims
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
from common.identity import Verifier, bearer_token
from gateway.body import ClientLeftError, RequestBody
from gateway.capacity import Capacity
from gateway.connection import Connection
from gateway.failed_tokens import FailedTokens
from gateway.headers import Header, client_address, client_network, to_client, to_service
from gateway.open_streams import OpenStreams
from gateway.outgoing import Outgoing
from gateway.rate_limit import Admission, RateLimiter
from gateway.routes import Route
from gateway.settings import Settings
from gateway.tracing import trace_headers
from gateway.upstream import Upstream, upstream_failures

logger = logging.getLogger(__name__)


class Proxy:
    """Answers by asking the service behind a route; `scope["route"]` is the matching row of the table, or None."""

    def __init__(
        self, settings: Settings, verifier: Verifier, limiter: RateLimiter, upstreams: Mapping[str, Upstream]
    ) -> None:
        self._failed_tokens = FailedTokens(settings.limits)
        self._trusted = settings.trusted_proxies
        self._verifier = verifier
        self._limiter = limiter
        self._upstreams = upstreams
        self._capacities = {
            name: Capacity(
                name,
                slots=settings.upstream_connections,
                waiting_places=settings.upstream_waiting,
                wait_seconds=settings.upstream_wait_seconds,
            )
            for name in upstreams
        }
        self._open_streams = OpenStreams(verifier.revocations)

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
        told = dict(scope["headers"])
        client = client_address(scope, self._trusted)
        # Ready by the time that Redis has answered.
        headers = cache(lambda: to_service(scope, told, client, self._trusted) + trace_headers())
        asyncio.get_running_loop().call_soon(headers)
        admission = await self._admit(route, client, told.get(b"authorization"))
        try:
            await self._forward(scope, receive, send, told, headers, admission)
        except ClientLeftError:
            if admission.bill:
                admission.bill.left()
            raise
        except AppError as error:  # ours, in the place of a reply
            error.headers |= {name.decode(): value.decode() for name, value in admission.headers()}
            raise
        finally:
            if admission.bill:
                admission.bill.settle()

    async def _forward(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        told: Mapping[bytes, bytes],
        headers: Callable[[], list[Header]],
        admission: Admission,
    ) -> None:
        """The question to the service, and its reply back."""
        route: Route = scope["route"]
        declared = told.get(b"content-length")
        body = RequestBody(receive, cap=route.body_cap, seconds=route.body_seconds, declared=declared)
        async with body.ended_by_client():
            content = await body.content(whole=route.who == "none")  # of strangers
            outgoing = Outgoing(
                method=scope["method"],
                target=_target(scope),
                headers=headers(),
                body=content if isinstance(content, bytes) else aiter(content),
                content_length=None if b"transfer-encoding" in told else declared,
                silence=route.read_timeout,
            )
            capacity = self._capacities[route.service]
            if not capacity.take():
                await capacity.wait()
            if admission.bill:
                admission.bill.asked()
            try:
                # Ready by the time that the service has answered.
                asyncio.get_running_loop().call_soon(admission.headers)
                reply = await _ask(self._upstreams[route.service], outgoing)
                relay = partial(_relay, reply, route, admission)
                held = await self._open_streams.carry(relay, reply.headers, admission.player, scope, send)
                if admission.bill and not held:  # or one could sign out just before the end, to be spared
                    admission.bill.left()
            finally:
                capacity.give_back()

    async def _admit(self, route: Route, client: str, authorization: bytes | None) -> Admission:
        """Players have limits of their own where a token is required; elsewhere addresses have, whoever it is."""
        if route.who == "required":
            player = await self._player(client, authorization)
            admission = await self._limiter.admit(route, f"user:{player.sub}", player.plan)
            return admission._replace(player=player)
        admission = await self._limiter.admit(route, f"ip:{client_network(client)}", None)
        if route.who == "optional" and authorization is not None:
            await self._player(client, authorization)
        return admission

    async def _player(self, client: str, authorization: bytes | None) -> PlayerClaims:
        """Who calls; raises UnauthorizedError, and TooManyRequestsError where too many tokens have failed."""
        token = bearer_token((authorization or b"").decode("latin-1"))
        address = client_network(client)
        if self._failed_tokens.are_too_many(address) and not self._verifier.remembers(token):
            self._failed_tokens.refuse(address)
        try:
            claims = await self._verifier.verify(token)
        except UnauthorizedError:
            if not self._verifier.remembers(token):  # or it is genuine, but revoked
                self._failed_tokens.add(address)
            raise
        if not isinstance(claims, PlayerClaims):
            raise UnauthorizedError
        return claims


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


async def _relay(reply: Connection, route: Route, admission: Admission, send: Send) -> None:
    """The reply, piece by piece as it comes."""
    bill = admission.bill
    if bill:
        bill.replied(reply.status, reply.headers)
    headers = to_client(reply.status, reply.headers) + admission.headers()
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        more = True
        while more:
            piece = await reply.read()
            more = not reply.complete
            if bill:
                bill.passed(piece)
                if not more:
                    bill.ended()
            await send({"type": "http.response.body", "body": piece, "more_body": more})
    except httpx.HTTPError as error:
        # To return without a last message makes the server cut the connection: nobody takes a part for the whole.
        upstream_failures.labels(route.service, "cut").inc()
        logger.warning("upstream cut its reply", extra={"upstream": route.service, "reason": str(error)})
    finally:
        reply.finish()
