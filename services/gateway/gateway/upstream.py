"""The way to one service: its addresses in turn, its connections, and errors that say what happened."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from prometheus_client import Counter

from gateway.connection import Connection
from gateway.outgoing import Outgoing

CONNECT_SECONDS = 2.0
# For the gateway's own calls.
OWN_CALLS_SECONDS = 2.0
# RFC 9110 §9.2.2: what may be sent again when nobody knows whether it was received.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

upstream_failures = Counter("gateway_upstream_failures_total", "Failed calls to services", ["service", "kind"])


class _Origin:
    """One address of a service, and the connections to it that wait for a request."""

    def __init__(self, url: httpx.URL) -> None:
        self._url = url
        # One for all connections: to read the system's authorities takes long.
        self._ssl = ssl.create_default_context() if url.scheme == "https" else None
        self._idle: dict[Connection, None] = {}
        self.host = url.netloc

    def idle(self) -> Connection | None:
        """The connection used last, whose service is the least likely to be tired of it."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_open:
                return connection
        return None

    async def connect(self) -> Connection:
        """A new connection; raises httpx.ConnectError."""
        port = self._url.port or (443 if self._ssl else 80)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._idle), self._url.host, port, ssl=self._ssl
                )
        except OSError as error:  # a TimeoutError is one
            raise httpx.ConnectError(f"{self._url.host}:{port}: {error!r}") from error
        return connection

    def close(self) -> None:
        """Close the idle connections."""
        for connection in list(self._idle):
            connection.abort()


class Upstream:
    """The service `name`; the address that answered last is asked first.

    Raises httpx.ConnectError when no address can be reached: then no byte was sent. httpx.ReadTimeout for silence,
    httpx.RemoteProtocolError for anything else.
    """

    def __init__(self, name: str, urls: str) -> None:
        self.name = name
        self._origins = deque(_Origin(httpx.URL(url.strip())) for url in urls.split(","))

    async def ask(self, outgoing: Outgoing) -> Connection:
        """Send a request; the connection has status and headers, gives the body by `read`, and wants its `finish`."""
        for _ in range(len(self._origins)):
            origin = self._origins[0]
            try:
                return await self._ask_at(origin, outgoing)
            except httpx.HTTPError as error:
                failure = error
                upstream_failures.labels(self.name, _kind(error)).inc()
            if not isinstance(failure, httpx.ConnectError):
                break
            if self._origins[0] is origin:  # not yet turned by a neighbour
                self._origins.rotate(-1)
        raise failure

    async def _ask_at(self, origin: _Origin, outgoing: Outgoing) -> Connection:
        """On an idle connection if there is one; if that was just closed, on a new one where that is safe."""
        if connection := origin.idle():
            try:
                return await _ask_on(connection, origin, outgoing)
            except httpx.RemoteProtocolError:
                is_safe = outgoing.method in IDEMPOTENT and isinstance(outgoing.body, bytes)
                if connection.answered or not is_safe:
                    raise
        return await _ask_on(await origin.connect(), origin, outgoing)

    def close(self) -> None:
        """Close the connections that no request uses."""
        for origin in self._origins:
            origin.close()


async def _ask_on(connection: Connection, origin: _Origin, outgoing: Outgoing) -> Connection:
    try:
        await connection.ask(outgoing, origin.host)
    except BaseException:  # also when the client left
        connection.abort()
        raise
    return connection


class OwnCalls(httpx.AsyncBaseTransport):
    """An httpx transport for what the gateway itself asks a service, over the same addresses and connections."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, and read the whole reply; which address it names does not matter."""
        body = await request.aread()
        framing = (b"host", b"content-length", b"connection")
        headers = [header for header in request.headers.raw if header[0].lower() not in framing]
        silence = request.extensions["timeout"]["read"]
        outgoing = Outgoing(request.method, request.url.raw_path, headers, body, None, silence)
        try:
            async with asyncio.timeout(silence):  # over all: here nobody waits for a stream
                reply = await self._upstream.ask(outgoing)
                try:
                    pieces = [piece async for piece in reply]
                finally:
                    reply.finish()
        except TimeoutError:
            raise httpx.ReadTimeout("no whole reply in time") from None
        return httpx.Response(reply.status, headers=reply.headers, content=b"".join(pieces), request=request)


@asynccontextmanager
async def open_upstream(name: str, urls: str) -> AsyncIterator[Upstream]:
    """An `Upstream` that is closed at the end."""
    upstream = Upstream(name, urls)
    try:
        yield upstream
    finally:
        upstream.close()


def client_of(upstream: Upstream) -> httpx.AsyncClient:
    """A client for the gateway's own few calls."""
    transport = OwnCalls(upstream)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{upstream.name}", timeout=OWN_CALLS_SECONDS)


def _kind(failure: httpx.HTTPError) -> str:
    if isinstance(failure, httpx.ConnectError):
        return "connect"
    return "timeout" if isinstance(failure, httpx.ReadTimeout) else "broken"
