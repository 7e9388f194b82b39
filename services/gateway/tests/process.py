"""The gateway as a process of its own, as it runs in production, and raw sockets on both of its sides."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from devstack.launch import free_port
from gateway.readiness import Drain
from gateway.server import Server
from gateway.settings import Settings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

START_SECONDS = 20.0


class GatewayProcess:
    """A running `python -m gateway`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, metrics_port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._metrics = f"http://127.0.0.1:{metrics_port}/metrics"

    def signal(self, signum: int = signal.SIGTERM) -> None:
        """Tell it to stop."""
        self.process.send_signal(signum)

    async def ended(self, seconds: float) -> int:
        """Its exit code, which must be there within `seconds`."""
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def metrics(self) -> dict[str, float]:
        """Every sample, by name and labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(self._metrics)).text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def sockets(self) -> int:
        """How many it holds open."""
        return open_sockets(self.process.pid)

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


@asynccontextmanager
async def gateway_process(**settings: Any) -> AsyncIterator[GatewayProcess]:
    """Start one on an inherited socket, told `settings` as DUGOUT_* variables, and wait until it is ready."""
    metrics_port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DUGOUT_")},
        "DUGOUT_ENV": "development",
        "DUGOUT_CLIENT_SECRET": "test",
        "DUGOUT_METRICS_PORT": str(metrics_port),
        "DUGOUT_LOG_LEVEL": "WARNING",
        **{f"DUGOUT_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd, port = listener.fileno(), listener.getsockname()[1]
        command = (sys.executable, "-m", "gateway", "--fd", str(fd))
        process = await asyncio.create_subprocess_exec(*command, env=environment, pass_fds=(fd,))
    try:
        async with httpx.AsyncClient(timeout=START_SECONDS) as client, asyncio.timeout(START_SECONDS):
            # The inherited listener takes the question at once, and the process answers when it has started.
            while (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield GatewayProcess(process, port, metrics_port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def open_sockets(pid: int) -> int:
    """How many sockets a process holds, listeners included."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in between
            count += str(link.readlink()).startswith("socket:")
    return count


class _Server(Server):
    """Leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def guarded(app: ASGIApp, settings: Settings) -> AsyncIterator[int]:
    """The port of `app` behind the gateway's own server, in this process."""
    server = _Server(app, settings, Drain(), host="127.0.0.1", port=0)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


class RawService:
    """A service that does to each connection what `handler` says; knows how many are open."""

    def __init__(self) -> None:
        self.handler: Handler = answer_ok
        self.open = 0
        self.changed = asyncio.Condition()
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self._count(1)
        try:
            await self.handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway hung up, or the test is over
        finally:
            writer.close()
            await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self.changed:
            self.open += change
            self.changed.notify_all()

    async def stop(self) -> None:
        """Cut what is still open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def asked(self, seconds: float) -> None:
        """Return when a connection is open, which must be within `seconds`."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(lambda: self.open > 0)

    async def all_closed(self, seconds: float) -> None:
        """Return when no connection is open, which must be within `seconds`."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(lambda: self.open == 0)


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same to every request without a body, until the gateway hangs up: an API without routes."""
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"paths": {}}')


@asynccontextmanager
async def raw_service() -> AsyncIterator[RawService]:
    """One that listens."""
    service = RawService()
    async with await asyncio.start_server(service, "127.0.0.1", 0) as server:
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield service
        await service.stop()


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to a gateway, for what no HTTP client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
