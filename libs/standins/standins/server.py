"""Serves an ASGI app on a free port of 127.0.0.1, from a thread and an event loop of its own."""

import asyncio
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

START_SECONDS = 20


class _Server(uvicorn.Server):
    """Leaves the process's signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@dataclass(frozen=True)
class Served:
    """Where the app listens."""

    url: str


@contextmanager
def serve(app: ASGIApp, port: int = 0) -> Iterator[Served]:
    """Run `app` until the block ends; port 0 takes any free one."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
    server = _Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),), name="stand-in", daemon=True)
    thread.start()
    try:
        if not server.listening.wait(START_SECONDS):
            raise TimeoutError("the stand-in did not start")
        yield Served(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()
