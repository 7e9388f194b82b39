"""Tests of `gateway.proxy`, `headers` and `upstream`: what passes, in both directions, and what failures become."""

import asyncio
import json
from dataclasses import replace

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from common.testing import Tokens, listening
from devstack.launch import free_port
from gateway import routes

from .conftest import OpenGateway, ScriptedService, connected, head, piece, read_body, read_head, reply

GAMES = "/api/coach/games"
EVENT_STREAM = [(b"content-type", b"text/event-stream")]


async def test_method_path_query_and_body_arrive_as_sent(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    response = await gateway.put("/api/coach/a%20b/한?q=1+2&r=%26", content="질문", headers=signed_in)
    assert response.json() == {"method": "PUT", "target": "/api/coach/a%20b/%ED%95%9C?q=1+2&r=%26", "body": "질문"}


async def test_a_stream_passes_event_by_event(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    first_read = asyncio.Event()

    async def two_events(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        await send(piece(b"event: token\n\n"))
        await first_read.wait()  # never comes if the gateway holds the first event back
        await send(piece(b"event: done\n\n", more=False))

    service.answer = two_events
    async with gateway.stream("POST", "/api/coach/ask", json={}, headers=signed_in) as response:
        events = response.aiter_raw()
        assert await asyncio.wait_for(anext(events), 5) == b"event: token\n\n"
        first_read.set()
        assert [event async for event in events] == [b"event: done\n\n"]
    assert response.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("answered", [False, True], ids=["before the first word", "in the middle"])
async def test_a_client_that_leaves_ends_the_call_behind(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str], answered: bool
) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def think_for_ever(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        if answered:
            await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
            await send(piece(b"event: token\n\n"))
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    service.answer = think_for_ever
    async with connected(gateway) as (_, writer):
        writer.write(head("GET", GAMES, signed_in))
        await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(left.wait(), 0.5)


async def test_what_a_client_says_in_the_gateways_name_is_dropped(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    spoofed = {
        "Dugout-Actor-Token": "mine",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/internal",
        "X-Real-IP": "203.0.113.7",
        "Forwarded": "for=203.0.113.7",
        "Connection": "keep-alive, X-Secret",
        "X-Secret": "for this hop only",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Proxy-Authorization": "Basic eDp5",
        "Baggage": "a=b",
        "Accept-Language": "ko",
        "Cookie": "a=1; b=2",
    }
    await gateway.get(GAMES, headers={**signed_in, **spoofed})
    arrived = service.headers()
    assert arrived.keys().isdisjoint(
        {"dugout-actor-token", "x-forwarded-prefix", "x-real-ip", "forwarded", "x-secret", "keep-alive", "te"}
        | {"proxy-authorization", "baggage", "connection"}
    )
    assert arrived["x-forwarded-for"] == "127.0.0.1"
    assert arrived["x-forwarded-proto"] == "http"
    assert arrived["x-forwarded-host"] == gateway.base_url.netloc.decode()
    assert arrived["host"] != arrived["x-forwarded-host"]
    assert arrived["authorization"] == signed_in["Authorization"]
    assert (arrived["accept-language"], arrived["cookie"]) == ("ko", "a=1; b=2")


async def test_nothing_is_asked_for_in_the_clients_name(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(head("GET", GAMES, signed_in))
        await read_head(reader)
    # Above all no accept-encoding: a client that can't unpack must not get gzip.
    assert service.headers().keys() == {
        "host",
        "authorization",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-request-id",
        "traceparent",
    }


async def test_cookies_of_one_caller_never_reach_another(
    open_gateway: OpenGateway, service: ScriptedService, service_url: str
) -> None:
    async def with_cookie(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, 200, {}, {"set-cookie": "__Host-session=secret; Path=/"})

    service.answer = with_cookie
    # By name, since a cookie jar takes none from a bare address.
    gateway = await open_gateway(admin_url=service_url.replace("127.0.0.1", "localhost"))
    async with httpx.AsyncClient(base_url=gateway.base_url) as somebody_else:
        assert (await gateway.get("/admin/")).headers["set-cookie"].startswith("__Host-session")
        await somebody_else.get("/admin/")
    assert "cookie" not in service.headers()


async def test_a_reply_keeps_its_headers_and_loses_the_hops(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            "Location": "/api/coach/answers/1",
            "ETag": '"7"',
            "X-Request-ID": "of-the-service",
            "X-Frame-Options": "SAMEORIGIN",
            "Keep-Alive": "timeout=5",
            "Dugout-Internal": "yes",
        }
        await reply(send, 201, {"a": 1}, headers)

    service.answer = answer
    response = await gateway.post(GAMES, headers=signed_in)
    assert (response.status_code, response.json()) == (201, {"a": 1})
    assert (response.headers["location"], response.headers["etag"]) == ("/api/coach/answers/1", '"7"')
    assert response.headers.keys().isdisjoint({"keep-alive", "dugout-internal"})
    assert response.headers.get_list("x-request-id") != ["of-the-service"]
    for once in ("x-request-id", "date", "server", "x-frame-options"):
        assert len(response.headers.get_list(once)) == 1, once


async def test_head_and_empty_replies_pass(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    async def empty(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"5")] if scope["method"] == "HEAD" else []
        await send({"type": "http.response.start", "status": 200 if headers else 204, "headers": headers})
        await send({"type": "http.response.body"})

    service.answer = empty
    assert (await gateway.head(GAMES, headers=signed_in)).headers["content-length"] == "5"
    assert (await gateway.delete(GAMES, headers=signed_in)).status_code == 204


async def test_a_reply_without_a_body_may_name_the_length_of_another(
    open_gateway: OpenGateway, signed_in: dict[str, str]
) -> None:
    async def unchanged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 5\r\n\r\n")

    server = await asyncio.start_server(unchanged, "127.0.0.1", 0)
    async with server:
        gateway = await open_gateway(coach_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with connected(gateway) as (reader, writer):
            for _ in range(2):  # the connection is kept
                writer.write(head("GET", GAMES, signed_in))
                assert (await read_head(reader))[0] == 304


async def test_a_player_route_needs_a_players_token(
    gateway: httpx.AsyncClient, service: ScriptedService, tokens: Tokens
) -> None:
    forged = tokens.player()[:-8] + "AAAAAAAA"
    service_token = tokens.service("coach", "gateway", "everything")
    for authorization in ("", "Basic eDp5", f"Bearer {forged}", f"Bearer {service_token}", "Bearer x"):
        response = await gateway.get(GAMES, headers={"Authorization": authorization, "Accept-Language": "ko-KR"})
        assert response.status_code == 401, authorization
        assert response.headers["www-authenticate"] == "Bearer"
        assert (response.json()["code"], response.json()["title"]) == ("unauthorized", "로그인이 필요합니다")
    assert service.requests == []


async def test_where_a_token_is_optional_a_wrong_one_is_still_refused(
    gateway: httpx.AsyncClient, signed_in: dict[str, str]
) -> None:
    assert (await gateway.get("/admin/")).status_code == 200
    assert (await gateway.get("/admin/", headers=signed_in)).status_code == 200
    assert (await gateway.get("/admin/", headers={"Authorization": "Bearer x"})).status_code == 401


async def test_sign_in_takes_any_token_because_auth_decides(gateway: httpx.AsyncClient) -> None:
    assert (await gateway.post("/auth/refresh", headers={"Authorization": "Bearer x"})).status_code == 200


async def test_many_first_callers_are_let_in_on_one_key_fetch(
    gateway: httpx.AsyncClient, service: ScriptedService, tokens: Tokens
) -> None:
    responses = await asyncio.gather(*(gateway.get(GAMES, headers=tokens.headers()) for _ in range(20)))
    assert {response.status_code for response in responses} == {200}
    assert service.key_fetches == 1


async def test_a_service_that_is_away_is_503_and_when_to_come_back(
    open_gateway: OpenGateway, signed_in: dict[str, str]
) -> None:
    gateway = await open_gateway(coach_url=f"http://127.0.0.1:{free_port()}")
    response = await gateway.get(GAMES, headers={**signed_in, "Accept-Language": "ko"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "unavailable"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.headers["content-language"] == "ko"


async def test_the_next_address_is_tried_when_one_cannot_be_reached(
    open_gateway: OpenGateway, service_url: str, signed_in: dict[str, str]
) -> None:
    gateway = await open_gateway(coach_url=f"http://127.0.0.1:{free_port()}, {service_url}")
    for _ in range(2):
        response = await gateway.post("/api/coach/ask", content=b"question", headers=signed_in)
        assert (response.status_code, response.json()["body"]) == (200, "question")


async def test_silence_is_504(
    gateway: httpx.AsyncClient,
    service: ScriptedService,
    signed_in: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def say_nothing(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    service.answer = say_nothing
    monkeypatch.setitem(routes._BY_PREFIX, "/api/coach", replace(routes._BY_PREFIX["/api/coach"], read_timeout=0.05))
    response = await gateway.get(GAMES, headers=signed_in)
    assert (response.status_code, response.json()["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize(
    "said", [b"", b"no http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 999 X\r\n\r\n"]
)
async def test_an_answer_that_is_none_is_502(open_gateway: OpenGateway, signed_in: dict[str, str], said: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        gateway = await open_gateway(coach_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        response = await gateway.post(GAMES, headers=signed_in)
    assert (response.status_code, response.json()["code"]) == (502, "upstream_failed")


async def test_a_reply_cut_behind_is_never_whole_to_the_client(
    open_gateway: OpenGateway, signed_in: dict[str, str]
) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with server:
        gateway = await open_gateway(coach_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.get(GAMES, headers=signed_in)
    assert (await gateway.get("/healthz")).status_code == 200


async def test_a_query_that_is_no_text_is_refused(gateway: httpx.AsyncClient, signed_in: dict[str, str]) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(head("GET", GAMES, signed_in).replace(b"/games", b"/games?q=\xff"))
        assert (await read_head(reader))[0] == 400


async def test_a_request_is_one_trace_from_the_gateway_on(
    open_gateway: OpenGateway,
    service: ScriptedService,
    signed_in: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    gateway = await open_gateway(log_format="json")
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    sent = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "X-Request-ID": "from-the-client"}
    response = await gateway.get(GAMES, headers={**signed_in, **sent})
    assert response.headers["x-request-id"] == "from-the-client"
    arrived = service.headers()
    assert arrived["x-request-id"] == "from-the-client"
    assert arrived["traceparent"].split("-")[1] == trace_id
    assert arrived["traceparent"] != sent["traceparent"]
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"request"' in line]
    [line] = [line for line in logged if line.get("route") == "/api/coach/*"]
    assert (line["trace_id"], line["request_id"], line["status"]) == (trace_id, "from-the-client", 200)


async def test_without_one_from_the_client_the_trace_begins_here(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    await gateway.get(GAMES, headers=signed_in)
    first = service.headers()["traceparent"].split("-")[1]
    await gateway.get(GAMES, headers=signed_in)
    assert first != service.headers()["traceparent"].split("-")[1] != "0" * 32


async def test_services_are_apart(open_gateway: OpenGateway, tokens: Tokens, signed_in: dict[str, str]) -> None:
    async with listening(ScriptedService(tokens)) as other_url:
        gateway = await open_gateway(coach_url=f"http://127.0.0.1:{free_port()}", admin_url=other_url)
        assert (await gateway.get("/admin/stats")).status_code == 200
        assert (await gateway.get(GAMES, headers=signed_in)).status_code == 503
