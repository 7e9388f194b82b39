"""Tests of `gateway.body`: bodies that are too large, in pieces, or broken off."""

import asyncio
from dataclasses import replace

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from common.errors import PayloadTooLargeError
from gateway import routes
from gateway.body import RequestBody

from .conftest import OpenGateway, ScriptedService, connected, head, read_body, read_head

ASK = "/api/coach/ask"
CAP = 64 * 1024


async def test_two_megabytes_are_refused_before_any_service_hears_of_them(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    response = await gateway.post(ASK, content=b"x" * 2_000_000, headers=signed_in)
    assert response.status_code == 413
    assert response.json()["code"] == "payload_too_large"
    assert "64 KiB" in response.json()["detail"]
    assert service.requests == []


async def test_a_declared_length_is_refused_before_the_body_is_sent(
    gateway: httpx.AsyncClient, signed_in: dict[str, str]
) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(head("POST", ASK, {**signed_in, "content-length": "2000000", "expect": "100-continue"}))
        assert (await read_head(reader))[0] == 413


async def test_a_body_in_pieces_is_counted_as_it_comes(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    received: list[Message] = []

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1].get("more_body"):
            received.append(await receive())

    service.answer = keep
    async with connected(gateway) as (reader, writer):
        writer.write(head("POST", ASK, {**signed_in, "transfer-encoding": "chunked"}))
        for _ in range(5):
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()
        status, text = await read_head(reader)
    assert (status, "application/problem+json" in text) == (413, True)
    # The service saw the connection end, not a whole body.
    assert all(message.get("more_body") or message["type"] == "http.disconnect" for message in received)


async def test_a_body_as_large_as_allowed_passes(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    response = await gateway.post(ASK, content=b"x" * CAP, headers=signed_in)
    assert response.status_code == 200
    assert len(response.json()["body"]) == CAP


async def test_documents_may_be_larger(gateway: httpx.AsyncClient, service: ScriptedService) -> None:
    async def measure(scope: Scope, receive: Receive, send: Send) -> None:
        size = len(await read_body(receive))
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-size", str(size).encode())]})
        await send({"type": "http.response.body"})

    service.answer = measure
    response = await gateway.post("/admin/documents", content=b"x" * 3_000_000)
    assert (response.status_code, response.headers["x-size"]) == (202, "3000000")


async def test_a_body_reaches_the_service_piece_by_piece(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    first_arrived = asyncio.Event()

    async def wait_for_two(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"one"
        first_arrived.set()
        assert await read_body(receive) == b"two"
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def pieces() -> None:
        writer.write(b"3\r\none\r\n")
        await first_arrived.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    service.answer = wait_for_two
    async with connected(gateway) as (reader, writer):
        writer.write(head("POST", ASK, {**signed_in, "transfer-encoding": "chunked"}))
        await pieces()
        assert (await read_head(reader))[0] == 204


async def test_a_body_broken_off_never_looks_whole_to_the_service(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    first_arrived, ended = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        first_arrived.set()
        message = await receive()
        while message.get("body"):
            message = await receive()
        ended.set_result(message["type"])

    service.answer = keep
    async with connected(gateway) as (_, writer):
        writer.write(head("POST", ASK, {**signed_in, "transfer-encoding": "chunked"}) + b"3\r\none\r\n")
        await first_arrived.wait()
    assert await asyncio.wait_for(ended, 5) == "http.disconnect"


async def test_a_content_length_that_lies_does_not_help() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 20, "more_body": True}

    with pytest.raises(PayloadTooLargeError):
        await RequestBody(receive, cap=10, seconds=5, declared=b"5").content()


async def test_a_body_that_trickles_in_ends_with_its_time(
    gateway: httpx.AsyncClient,
    service: ScriptedService,
    signed_in: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        while message.get("body"):
            message = await receive()
        ended.set_result(message["type"])

    service.answer = keep
    monkeypatch.setitem(routes._BY_PREFIX, ASK, replace(routes._BY_PREFIX[ASK], body_seconds=0.3))
    async with connected(gateway) as (reader, writer):
        writer.write(head("POST", ASK, {**signed_in, "transfer-encoding": "chunked"}) + b"3\r\none\r\n")
        status, text = await asyncio.wait_for(read_head(reader), 5)
        assert (status, "application/problem+json" in text, "connection: close" in text) == (408, True, True)
    # To the service the body is broken off, not whole.
    assert await asyncio.wait_for(ended, 5) == "http.disconnect"


async def test_a_stranger_who_dawdles_keeps_no_slot_of_the_service(
    open_gateway: OpenGateway, service: ScriptedService
) -> None:
    gateway = await open_gateway(upstream_connections=1, upstream_waiting=0)
    async with connected(gateway) as (reader, writer):
        writer.write(head("POST", "/auth/refresh", {"content-length": "6"}) + b"one")
        assert (await gateway.post("/auth/refresh", content=b"other")).json()["body"] == "other"
        writer.write(b"two")
        assert (await read_head(reader))[0] == 200
    assert [scope["path"] for scope in service.requests] == ["/auth/refresh"] * 2
