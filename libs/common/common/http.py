"""Calls to our other services: one client per callee, every wait bounded, trace and identity passed on."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import httpx
from httpx_aiohttp import HttpxAiohttpClient
from opentelemetry import propagate
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from common import logs
from common.errors import (
    AppError,
    NotFoundError,
    Text,
    UnauthorizedError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
    accept_language,
    caller_locale,
)

Reply = TypeVar("Reply")

# By which a caller knows that not its own token was refused, but that of the person it acts for.
ACTOR_REFUSED_HEADER = "Dugout-Actor-Refused"
RENEW_BEFORE_SECONDS = 60
RENEW_AGAIN_SECONDS = 5
# Less than uvicorn's five: a connection that the service is about to close must not take a call.
IDLE_SECONDS = 3.0


async def _propagate(request: httpx.Request) -> None:
    """Trace context, request id, and the language that a refusal shall speak travel with every call."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    request.headers.update(carrier)
    if known := logs.request_id.get():
        request.headers["X-Request-ID"] = known
    if language := accept_language.get():
        request.headers["Accept-Language"] = caller_locale(language)


@asynccontextmanager
async def http_client(
    base_url: str, *, read_timeout: float = 10.0, connections: int = 100, auth: httpx.Auth | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one service; timeouts in seconds."""
    async with HttpxAiohttpClient(
        base_url=base_url,
        auth=auth,
        timeout=httpx.Timeout(read_timeout, connect=2.0, pool=2.0),
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=IDLE_SECONDS
        ),
        event_hooks={"request": [_propagate]},
        trust_env=False,
    ) as client:
        yield client


class _Token(BaseModel):
    access_token: str
    expires_in: int


class ServiceAuth(httpx.Auth):
    """Signs calls to `audience` with a client-credentials token (RFC 6749 §4.4), fetched once and renewed in time.

    A token may end before its time, with the key that signed it: one that is refused is renewed too.
    """

    def __init__(
        self,
        auth_client: httpx.AsyncClient,
        *,
        client_id: str,
        client_secret: SecretStr,
        audience: str,
        scope: str,
    ) -> None:
        self._client = auth_client
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret.get_secret_value(),
            "audience": audience,
            "scope": scope,
        }
        self._token = ""
        self._renewed_at = self._renew_at = self._ends_at = float("-inf")
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the bearer token; the call is made again with a newer one when the callee does not take it."""
        token = await self._current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != 401 or ACTOR_REFUSED_HEADER in response.headers:
            return
        self._give_up(token)
        # What is streamed has been sent and cannot be sent again.
        if isinstance(request.stream, httpx.ByteStream) and (newer := await self._current()) != token:
            request.headers["Authorization"] = f"Bearer {newer}"
            yield request

    def _give_up(self, token: str) -> None:
        """Renew `token` at once, unless it is new: a callee that takes none must not make us ask auth all the time."""
        if token == self._token:
            self._renew_at = min(self._renew_at, self._renewed_at + RENEW_AGAIN_SECONDS)

    async def _current(self) -> str:
        async with self._lock:
            now = time.monotonic()
            if now >= self._renew_at:
                try:
                    await self._renew(now)
                except AppError:
                    if now >= self._ends_at:
                        raise
                    self._renew_at = now + RENEW_AGAIN_SECONDS  # auth is away: the last token still has its minute
            return self._token

    async def _renew(self, now: float) -> None:
        token = await call(self._client, "POST", "/internal/token", _Token, data=self._form)
        self._token, self._renewed_at = token.access_token, now
        self._ends_at = now + token.expires_in
        self._renew_at = max(self._ends_at - RENEW_BEFORE_SECONDS, now + RENEW_AGAIN_SECONDS)


async def call(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    reply: type[Reply],
    *,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Reply:
    """One call to another service; `options` are httpx's (`json`, `params`, `data`, `content`, `timeout`).

    For a call without a reply (204) `reply` is `NoneType`.
    Raises NotFoundError for its 404, UnauthorizedError when it refuses the person for whom we call,
    UpstreamTimeoutError, UnavailableError when it cannot be reached or says 503 (with the code it gives),
    UpstreamProblemError for its other 4xx, UpstreamError for anything else that is not the reply we read.
    """
    try:
        response = await client.request(method, path, headers=headers, **options)
    # The aiohttp transport calls a refused connection a ConnectTimeout.
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise UnavailableError from error
    except httpx.TimeoutException as error:
        raise UpstreamTimeoutError from error
    # It lets some of aiohttp's own errors through.
    except (httpx.HTTPError, aiohttp.ClientError) as error:
        raise UpstreamError from error
    if response.is_error:
        raise _failure(response)
    try:
        return TypeAdapter(reply).validate_json(response.content or b"null")
    except ValidationError as error:
        raise UpstreamError from error


class UpstreamProblemError(AppError):
    """Another service refused the call; its status, code and words (in our caller's language) are kept."""

    def __init__(self, response: httpx.Response, document: Mapping[str, Any]) -> None:
        detail = str(document.get("detail", ""))
        super().__init__(Text(detail, detail), errors=document.get("errors") or ())
        title = str(document.get("title", ""))
        self.__dict__.update(
            status=response.status_code,
            code=str(document.get("code", "upstream_refused")),
            title=Text(title, title),
        )


def _failure(response: httpx.Response) -> AppError:
    if response.status_code == 404:
        return NotFoundError()
    if response.status_code == 401 and ACTOR_REFUSED_HEADER in response.headers:
        return UnauthorizedError()
    try:
        document = response.json()
    except ValueError:
        document = None
    if response.status_code == 503:
        unavailable = UnavailableError()
        if isinstance(document, dict):
            unavailable.__dict__["code"] = str(document.get("code", unavailable.code))
        return unavailable
    # 401 and 403 speak of our own token, which the caller can do nothing about.
    if not isinstance(document, dict) or response.status_code in (401, 403) or response.status_code >= 500:
        return UpstreamError()
    return UpstreamProblemError(response, document)
