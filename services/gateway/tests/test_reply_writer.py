"""Tests of `gateway.reply_writer`, in a process as in production: what is written together, and what does not wait."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common.testing import Tokens

from .process import GatewayProcess, connection, gateway_process, raw_service

HEAD, BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"hello"


class Coach:
    """Answers at once, but `/api/coach/slow` in two steps."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readuntil(b"\r\n\r\n"):
            if b"/slow" in request:
                writer.write(HEAD)
                await self.go_on.wait()
                writer.write(BODY)
            else:
                writer.write(HEAD + BODY)


@pytest.fixture(scope="module")
async def coach() -> Coach:
    return Coach()


@pytest.fixture(scope="module")
async def gateway(coach: Coach, auth_url: str, redis_urls: dict[str, str]) -> AsyncIterator[GatewayProcess]:
    async with raw_service() as service:
        service.handler = coach
        urls = {"auth_url": auth_url, "coach_url": service.url, "admin_url": service.url}
        async with gateway_process(state_redis_url=redis_urls["state"], **urls) as process:
            yield process


def request(method: bytes, path: bytes, tokens: Tokens) -> bytes:
    authorization = tokens.headers()["Authorization"].encode()
    return b"%b %b HTTP/1.1\r\nhost: g\r\nauthorization: %b\r\n\r\n" % (method, path, authorization)


async def test_head_and_body_come_in_one_packet(gateway: GatewayProcess, tokens: Tokens) -> None:
    async with connection(gateway.port) as (reader, writer):
        for _ in range(20):
            writer.write(request(b"GET", b"/api/coach/games", tokens))
            assert (await asyncio.wait_for(reader.read(65536), 5)).endswith(b"\r\n\r\n" + BODY)


async def test_a_head_that_is_all_there_is_comes_too(gateway: GatewayProcess, tokens: Tokens) -> None:
    async with connection(gateway.port) as (reader, writer):
        for _ in range(3):
            writer.write(request(b"HEAD", b"/api/coach/games", tokens))
            assert b"content-length: 5" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)


async def test_a_head_does_not_wait_for_a_body_that_takes_its_time(
    gateway: GatewayProcess, coach: Coach, tokens: Tokens
) -> None:
    async with connection(gateway.port) as (reader, writer):
        writer.write(request(b"GET", b"/api/coach/slow", tokens))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        coach.go_on.set()
        assert await asyncio.wait_for(reader.readexactly(5), 5) == BODY
