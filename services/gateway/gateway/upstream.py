"""The way to one service: its addresses in turn, its own connections, and errors that say what happened."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from prometheus_client import Counter

from common.errors import AppError

CONNECT_SECONDS = 2.0
# Less than uvicorn's five: a connection that the service is about to close must not take a request.
IDLE_SECONDS = 3.0
# For the gateway's own calls.
OWN_CALLS_SECONDS = 2.0

upstream_failures = Counter("gateway_upstream_failures_total", "Failed calls to services", ["service", "kind"])


class Upstream(httpx.AsyncBaseTransport):
    """An httpx transport to the service `name`; the address that answered last is asked first.

    Raises httpx.ConnectError when no address can be reached: then no byte was sent. httpx.ReadTimeout for silence,
    httpx.RemoteProtocolError for anything else.
    """

    def __init__(self, name: str, urls: str, *, connections: int) -> None:
        self.name = name
        self._origins = deque(httpx.URL(url.strip()) for url in urls.split(","))
        self._transport = AiohttpTransport(client=lambda: _session(connections), trust_env=False)

    def url(self, target: bytes) -> httpx.URL:
        """Path and query `target` at the address that is asked first."""
        return self._origins[0].copy_with(raw_path=target)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; which address it names does not matter, since that is ours to choose."""
        for _ in range(len(self._origins)):
            origin = self._origins[0]
            if request.url.netloc != origin.netloc:
                request.url = self.url(request.url.raw_path)
                request.headers["Host"] = origin.netloc.decode()
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.HTTPError, aiohttp.ClientError) as error:
                failure = _failure(error)
                if isinstance(failure, AppError):
                    raise failure from error
                upstream_failures.labels(self.name, _kind(failure)).inc()
                if not isinstance(failure, httpx.ConnectError):
                    raise failure from error
                if self._origins[0] is origin:  # not yet turned by a neighbour
                    self._origins.rotate(-1)
        raise failure

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


@asynccontextmanager
async def open_upstream(name: str, urls: str, *, connections: int) -> AsyncIterator[Upstream]:
    """An `Upstream` that is closed at the end."""
    upstream = Upstream(name, urls, connections=connections)
    try:
        yield upstream
    finally:
        await upstream.aclose()


def timeouts(read: float) -> dict[str, float | None]:
    """The `timeout` extension of a request; `read` is the longest silence, in seconds."""
    return {"connect": CONNECT_SECONDS, "pool": CONNECT_SECONDS, "read": read, "write": None}


def client_of(upstream: Upstream) -> httpx.AsyncClient:
    """A client for the gateway's own few calls."""
    return httpx.AsyncClient(transport=upstream, base_url=f"http://{upstream.name}", timeout=OWN_CALLS_SECONDS)


def _session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=IDLE_SECONDS),
        # By default a session keeps cookies: one player's would be sent with the next player's request.
        cookie_jar=aiohttp.DummyCookieJar(),
        # And adds headers of its own: a client that accepts no gzip must not get any.
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )


def _failure(error: Exception) -> httpx.HTTPError | AppError:
    """The httpx error for what happened; httpx-aiohttp 0.2 calls a dropped connection a ConnectTimeout.

    A failure of ours in the middle of the body it was sending stays what it was.
    """
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) else error
    if cause and isinstance(cause.__cause__, AppError):
        return cause.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return httpx.ConnectError(str(cause))
    if isinstance(cause, TimeoutError):
        return httpx.ReadTimeout(str(cause))
    return httpx.RemoteProtocolError(str(cause))


def _kind(failure: httpx.HTTPError) -> str:
    if isinstance(failure, httpx.ConnectError):
        return "connect"
    return "timeout" if isinstance(failure, httpx.ReadTimeout) else "broken"
