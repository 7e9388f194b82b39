"""What a caller learns when another service fails, and how it proves who it is."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from types import NoneType

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from opentelemetry import trace
from pydantic import BaseModel, SecretStr

from common import logs
from common.errors import (
    AppError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from common.http import ACTOR_REFUSED_HEADER, ServiceAuth, UpstreamProblemError, call, http_client
from common.telemetry import configure_tracing
from common.testing import listening
from standins.server import serve

callee = FastAPI()
released = asyncio.Event()


class Taken:
    """The one token that `/guarded` takes."""

    token = ""


taken = Taken()
token_endpoint = FastAPI()


@token_endpoint.post("/internal/token")
async def token() -> dict[str, object]:
    return {"access_token": "once", "expires_in": 600}


class Echo(BaseModel):
    headers: dict[str, str]


@callee.get("/echo")
async def echo(request: Request) -> Echo:
    return Echo(headers=dict(request.headers))


@callee.get("/status/{status}")
async def answer(status: int) -> Response:
    return JSONResponse({"code": "taken", "title": "Taken", "detail": "It is taken"}, status)


@callee.get("/person-refused")
async def person_refused() -> Response:
    return JSONResponse({"code": "unauthorized"}, 401, {ACTOR_REFUSED_HEADER: "true"})


@callee.post("/guarded")
async def guarded(request: Request) -> Response:
    ours = request.headers["authorization"] == f"Bearer {taken.token}"
    return JSONResponse(await request.json(), 200 if ours else 401)


@callee.get("/nothing", status_code=204)
async def nothing() -> None:
    """Done."""


@callee.get("/html")
async def html() -> PlainTextResponse:
    return PlainTextResponse("<h1>busy</h1>")


@callee.get("/html/{status}")
async def html_error(status: int) -> PlainTextResponse:
    return PlainTextResponse("<h1>busy</h1>", status)


@callee.get("/stall")
async def stall() -> None:
    await released.wait()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    released.clear()
    async with listening(callee) as url, http_client(url, read_timeout=0.2) as client:
        yield client
        released.set()


async def test_a_reply_without_a_body_is_none(client: httpx.AsyncClient) -> None:
    await call(client, "GET", "/nothing", NoneType)
    with pytest.raises(UpstreamError):
        await call(client, "GET", "/nothing", Echo)


async def test_a_503_keeps_the_code_it_came_with(client: httpx.AsyncClient) -> None:
    with pytest.raises(UnavailableError) as caught:
        await call(client, "GET", "/status/503", Echo)
    assert caught.value.code == "taken"


async def test_trace_and_request_id_travel_with_a_call(client: httpx.AsyncClient) -> None:
    configure_tracing("test", None)
    logs.request_id.set("request-17")
    with trace.get_tracer("test").start_as_current_span("caller") as span:
        reply = await call(client, "GET", "/echo", Echo)
    assert reply.headers["x-request-id"] == "request-17"
    assert trace.format_trace_id(span.get_span_context().trace_id) in reply.headers["traceparent"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/status/404", NotFoundError),
        ("/status/409", UpstreamProblemError),
        ("/status/401", UpstreamError),
        ("/person-refused", UnauthorizedError),
        ("/status/403", UpstreamError),
        ("/status/500", UpstreamError),
        ("/status/503", UnavailableError),
        ("/html", UpstreamError),
        ("/html/400", UpstreamError),
        ("/stall", UpstreamTimeoutError),
    ],
)
async def test_a_failing_callee_becomes_a_typed_error(
    client: httpx.AsyncClient, path: str, error: type[AppError]
) -> None:
    with pytest.raises(error) as raised:
        await call(client, "GET", path, Echo)
    assert type(raised.value) is error


async def test_a_refusal_keeps_the_callees_code_and_words(client: httpx.AsyncClient) -> None:
    with pytest.raises(UpstreamProblemError) as raised:
        await call(client, "GET", "/status/409", Echo)
    assert (raised.value.status, raised.value.code, raised.value.detail.ko) == (409, "taken", "It is taken")


async def test_a_callee_that_is_away_is_unavailable() -> None:
    async with http_client("http://127.0.0.1:1") as client:
        with pytest.raises(UnavailableError):
            await call(client, "GET", "/echo", Echo)


async def test_one_token_serves_many_calls(client: httpx.AsyncClient, auth_url: str) -> None:
    async with http_client(auth_url) as auth_client:
        auth = ServiceAuth(
            auth_client, client_id="reader", client_secret=SecretStr("s"), audience="notes", scope="notes:read"
        )
        replies = await asyncio.gather(*(client.get("/echo", auth=auth) for _ in range(5)))
    sent = {Echo.model_validate_json(reply.content).headers["authorization"] for reply in replies}
    assert len(sent) == 1
    assert sent.pop().startswith("Bearer ey")


@pytest.fixture
async def granting() -> AsyncIterator[httpx.AsyncClient]:
    """An auth that grants tokens 1, 2, 3 …"""
    granted = itertools.count(1)
    app = FastAPI()

    @app.post("/internal/token")
    async def token() -> dict[str, object]:
        return {"access_token": str(next(granted)), "expires_in": 600}

    async with listening(app) as url, http_client(url) as client:
        yield client


async def test_a_token_that_ended_with_its_key_is_renewed_and_the_call_made_again(
    client: httpx.AsyncClient, granting: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = ServiceAuth(granting, client_id="reader", client_secret=SecretStr("s"), audience="notes", scope="notes:read")
    taken.token = "1"
    assert await call(client, "POST", "/guarded", str, json="a", auth=auth) == "a"
    taken.token = "2"
    with pytest.raises(UpstreamError):  # renewed a moment ago, so that there is hardly a better one
        await call(client, "POST", "/guarded", str, json="b", auth=auth)
    monkeypatch.setattr("common.http.RENEW_AGAIN_SECONDS", 0)
    assert await call(client, "POST", "/guarded", str, json="c", auth=auth) == "c"
    taken.token = "4"
    with pytest.raises(UpstreamError):
        await call(client, "POST", "/guarded", str, json="d", auth=auth)
    assert await call(client, "POST", "/guarded", str, json="e", auth=auth) == "e"


async def test_a_token_is_used_to_its_end_while_auth_is_away(client: httpx.AsyncClient) -> None:
    with serve(token_endpoint) as auth_server:
        async with http_client(auth_server.url) as auth_client:
            auth = ServiceAuth(
                auth_client, client_id="reader", client_secret=SecretStr("s"), audience="notes", scope="notes:read"
            )
            first = await client.get("/echo", auth=auth)
            auth_server.stop()
            auth._renew_at = 0.0  # as if a minute before its end
            second = await client.get("/echo", auth=auth)
            auth._renew_at = auth._ends_at = 0.0
            with pytest.raises(UnavailableError):
                await client.get("/echo", auth=auth)
    assert first.json()["headers"]["authorization"] == second.json()["headers"]["authorization"] == "Bearer once"
