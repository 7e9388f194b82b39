"""The server takes any ASGI app, sends small replies whole, and comes and goes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from standins.gate import Gate
from standins.openai import OpenAIStandin, run_openai
from standins.server import Server, serve


async def test_serve_runs_the_lifespan_of_an_app() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        seen.append("started")
        yield
        seen.append("stopped")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def root() -> list[str]:
        return seen

    with serve(app) as server:
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).json() == ["started"]
    assert seen == ["started", "stopped"]


def test_serve_says_so_when_the_lifespan_fails() -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    with pytest.raises(RuntimeError, match="lifespan failed"), serve(FastAPI(lifespan=lifespan)):
        pass


def test_serve_refuses_a_port_that_is_taken() -> None:
    with (
        run_openai() as openai,
        pytest.raises(OSError, match="in use"),
        run_openai(port=int(openai.url.rpartition(":")[2])),
    ):
        pass


def test_small_reply_leaves_in_one_segment() -> None:
    with run_openai() as openai, socket.create_connection(("127.0.0.1", int(openai.url.rpartition(":")[2]))) as client:
        for _ in range(20):  # two segments arrive as one now and then
            client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: standin\r\n\r\n")
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert body.endswith(b"}")


async def test_stop_does_not_wait_for_a_stalled_call() -> None:
    openai = OpenAIStandin()
    openai.say("never", hold=Gate())
    server = Server(openai)
    server.start()
    async with httpx.AsyncClient() as client:
        asked = {"messages": [{"role": "user", "content": "?"}]}
        asking = asyncio.create_task(client.post(f"{server.url}/v1/chat/completions", json=asked))
        await openai.until(lambda calls: len(calls) == 1)
        await asyncio.wait_for(asyncio.to_thread(server.stop), 5)
        with pytest.raises(httpx.TransportError):
            await asking


async def test_server_keeps_its_port_over_an_outage() -> None:
    server = Server(FastAPI())
    server.start()
    async with httpx.AsyncClient() as client:
        before = server.url
        server.stop()
        with pytest.raises(httpx.ConnectError):
            await client.get(before)
        server.start()
        assert (await client.get(before)).status_code == 404
    server.stop()
