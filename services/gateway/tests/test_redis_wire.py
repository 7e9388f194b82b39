"""Tests of `gateway.redis_wire` and the calls over it: wherever an address leads, nobody waits for ever."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis import RedisError

from common.redis import redis_client
from devstack.launch import free_port
from gateway import shared_counts
from gateway.counts import Check, Window
from gateway.redis_wire import open_wire
from gateway.shared_counts import SharedCounts

from .redis_server import RedisServer, redis_server

CHECK = Check(Window("gateway:limit:probe", 10, 60, binding=True))


@asynccontextmanager
async def answering(said: bytes) -> AsyncIterator[int]:
    """The port of one that says the same whenever it is told something."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(said)
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def refused(url: str) -> None:
    """Counting fails there, for all who wait, and soon."""
    async with redis_client(url) as client:
        counts = SharedCounts(client)
        started = time.monotonic()
        failures = await asyncio.gather(*(counts.take(CHECK) for _ in range(3)), return_exceptions=True)
        await counts.aclose()
    assert all(isinstance(failure, RedisError) for failure in failures), failures
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("said", [b"", b"+OK\r\n", b"*0\r\n", b"*1\r\n:1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@pytest.mark.parametrize("password", ["", ":secret@"])
async def test_one_that_does_not_speak_as_redis_fails_who_waits(
    said: bytes, password: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_counts, "COMMAND_TIMEOUT_SECONDS", 0.2)
    with caplog.at_level(logging.ERROR, "asyncio"):
        async with answering(said) as port:
            await refused(f"redis://{password}127.0.0.1:{port}")
    assert not caplog.records, "nothing goes wrong behind the caller's back"


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("redis://", ("localhost", 6379)),
        ("redis://redis-state/1", ("redis-state", 6379)),
        ("rediss://redis-state:7000", ("redis-state", 7000)),
    ],
)
async def test_an_address_may_leave_out_what_redis_py_knows(
    url: str, asked: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    connected_to: list[tuple[str, int]] = []

    async def connect(_: object, host: str, port: int, *, ssl: object) -> None:
        connected_to.append((host, port))
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    await refused(url)
    assert connected_to == [asked]


async def test_where_nobody_listens_who_waits_is_told() -> None:
    await refused(f"redis://127.0.0.1:{free_port()}")
    await refused("unix:///nowhere")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


async def test_it_signs_in_and_chooses_a_database_as_the_address_says(server: RedisServer) -> None:
    server.do("ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all")
    address = server.url.removeprefix("redis://").split("/")[0]
    async with redis_client(f"redis://gateway:secret@{address}/3") as client:
        wire, told = await open_wire(client), asyncio.get_running_loop().create_future()
        wire.call("CLIENT", "INFO", then=told.set_result)
        info = (await told).decode()
        wire.abort()
    assert "user=gateway" in info
    assert "db=3" in info
