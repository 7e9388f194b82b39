"""Tests of `gateway.open_streams`: whose event streams end with their session, how, and whose go on."""

import asyncio
import json

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from common import revocations
from common.testing import Tokens

from .conftest import OpenGateway, ScriptedService, piece, read_body, reply

WITHIN_SECONDS = 5.0


class Story:
    """What the service streams to a POST until the test or its reader ends it."""

    def __init__(self, first: bytes, content_type: bytes = b"text/event-stream") -> None:
        self._first = first
        self._headers = [(b"content-type", content_type)]
        self.begin, self._end = asyncio.Event(), asyncio.Event()
        self.begin.set()
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        if scope["method"] == "GET":
            await reply(send, 200, {})
            return
        self.asked.set()
        await self.begin.wait()
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send(piece(self._first))
        ends = [asyncio.ensure_future(waiting) for waiting in (receive(), self._end.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._end.is_set():
            await send(piece(b"event: done\n\n", more=False))
        else:
            self.left.set()
        for end in ends:
            end.cancel()

    def finish(self) -> None:
        self._end.set()


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch, open_gateway: OpenGateway, clean_redis: None) -> httpx.AsyncClient:
    """A gateway that polls often."""
    monkeypatch.setattr(revocations, "POLL_SECONDS", 0.02)
    return await open_gateway()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept-Language": "ko"}


async def refused(gateway: httpx.AsyncClient, token: str) -> None:
    """Wait until the gateway has read that `token` is revoked."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            if (await gateway.get("/api/coach/games", headers=bearer(token))).status_code == 401:
                return
            await asyncio.sleep(0.01)


async def test_the_stream_of_a_revoked_session_ends_in_an_error_that_says_why(
    gateway: httpx.AsyncClient, service: ScriptedService, tokens: Tokens
) -> None:
    service.answer = story = Story(b"event: token\ndata: 1\n\n")
    token = tokens.player()
    async with gateway.stream("POST", "/api/coach/ask", json={}, headers=bearer(token)) as response:
        events = response.aiter_raw()
        await anext(events)
        service.revoked.add(token)
        async with asyncio.timeout(WITHIN_SECONDS):
            rest = b"".join([part async for part in events]).decode()
    assert rest.endswith("\n\n")
    name, data = rest.split("\n")[:2]
    assert name == "event: error"
    document = json.loads(data.removeprefix("data: "))
    assert (document["status"], document["code"], document["instance"]) == (401, "token_revoked", "/api/coach/ask")
    assert "로그인" in document["detail"]
    await asyncio.wait_for(story.left.wait(), 1)


async def test_in_the_middle_of_an_event_the_connection_is_cut(
    gateway: httpx.AsyncClient, service: ScriptedService, tokens: Tokens
) -> None:
    service.answer = story = Story(b"event: token\ndata: hal")
    token = tokens.player()
    async with gateway.stream("POST", "/api/coach/ask", json={}, headers=bearer(token)) as response:
        events = response.aiter_raw()
        await anext(events)
        service.revoked.add(token)
        async with asyncio.timeout(WITHIN_SECONDS):
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(events)
    await asyncio.wait_for(story.left.wait(), 1)


async def test_a_session_revoked_before_its_stream_began_is_caught_too(
    gateway: httpx.AsyncClient, service: ScriptedService, tokens: Tokens
) -> None:
    service.answer = story = Story(b"event: token\n\n")
    story.begin.clear()
    token = tokens.player()
    asked = asyncio.create_task(gateway.post("/api/coach/ask", json={}, headers=bearer(token)))
    await asyncio.wait_for(story.asked.wait(), WITHIN_SECONDS)
    service.revoked.add(token)
    await refused(gateway, token)
    story.begin.set()
    response = await asyncio.wait_for(asked, WITHIN_SECONDS)
    assert "token_revoked" in response.text
    await asyncio.wait_for(story.left.wait(), 1)


@pytest.mark.parametrize(
    ("content_type", "epoch"), [(b"text/event-stream", 7), (b"application/json", 8)], ids=["newer token", "no stream"]
)
async def test_other_replies_go_on_to_their_end(
    gateway: httpx.AsyncClient, service: ScriptedService, tokens: Tokens, content_type: bytes, epoch: int
) -> None:
    """The token has the epoch that the session was brought to, or the reply is none that lasts."""
    service.answer = story = Story(b"event: token\n\n", content_type)
    token, older = (tokens.player(sid="0b6f3f9e-6d3c-4c59-9a83-0d6ab1d3d7a1", epoch=number) for number in (7, 6))
    async with gateway.stream("POST", "/api/coach/ask", json={}, headers=bearer(token)) as response:
        events = response.aiter_raw()
        await anext(events)
        service.revoked.add(token, epoch)
        await refused(gateway, older)
        story.finish()
        assert b"".join([part async for part in events]) == b"event: done\n\n"


async def test_streams_of_other_sessions_go_on(
    gateway: httpx.AsyncClient, service: ScriptedService, tokens: Tokens
) -> None:
    service.answer = story = Story(b"event: token\n\n")
    ended, kept = tokens.player(), tokens.player()
    async with (
        gateway.stream("POST", "/api/coach/ask", json={}, headers=bearer(ended)) as first,
        gateway.stream("POST", "/api/coach/ask", json={}, headers=bearer(kept)) as second,
    ):
        one, other = first.aiter_raw(), second.aiter_raw()
        await anext(one)
        await anext(other)
        service.revoked.add(ended)
        async with asyncio.timeout(WITHIN_SECONDS):
            assert b"event: error" in b"".join([part async for part in one])
        story.finish()
        assert b"".join([part async for part in other]) == b"event: done\n\n"
