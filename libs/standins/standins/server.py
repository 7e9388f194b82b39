"""Any ASGI app on a real socket of 127.0.0.1, in a thread and an event loop of its own."""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

HOST = "127.0.0.1"
# close() then sends RST at once instead of FIN.
LINGER_ZERO = struct.pack("ii", 1, 0)


class _JoiningTransport:
    """Sends in one segment what was written in one turn of the event loop; uvicorn writes head and body apart."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            asyncio.get_running_loop().call_soon(self._flush)
        self._written += data

    def get_write_buffer_size(self) -> int:
        return len(self._written) + self._transport.get_write_buffer_size()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._written and not self._transport.is_closing():
            self._transport.write(bytes(self._written))
        self._written.clear()


class _Protocol(HttpToolsProtocol):
    """uvicorn's own, with an ASGI extension by which an app resets its connection as a crashing server would."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _JoiningTransport(transport)))
        self._lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost.set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"standins": {"reset": self._reset}}

    async def _reset(self) -> None:
        while self.transport.get_write_buffer_size():  # noqa: ASYNC110 - what was sent must arrive, and no event says so
            await asyncio.sleep(0)
        # The event loops lend a socket without setsockopt; a second descriptor reaches the same socket.
        with socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno())) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self.transport.abort()
        await self._lost.wait()


class _Uvicorn(uvicorn.Server):
    """Says when it listens or has given up, and cuts what is still open when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            with suppress(SystemExit):  # how uvicorn gives up; `started` tells
                super().run(sockets)
        finally:
            self.settled.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # a scripted stall would otherwise hold up the end of a test
        await super().shutdown(sockets)


class Server:
    """Serves `app`; started again after a stop it keeps its port, so an outage can end."""

    def __init__(self, app: ASGIApp, *, port: int = 0) -> None:
        self.port = port
        self._app = app

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Return when the app is ready. OSError: the port is taken."""
        listener = socket.create_server((HOST, self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(self._app, http=_Protocol, log_config=None, access_log=False)
        self._uvicorn = _Uvicorn(config)
        self._thread = threading.Thread(target=self._uvicorn.run, args=([listener],), name=self.url, daemon=True)
        self._thread.start()
        self._uvicorn.settled.wait()
        if not self._uvicorn.started:
            self._thread.join()
            listener.close()
            raise RuntimeError("the app did not start; its lifespan failed")

    def stop(self) -> None:
        """Close the port and every connection, and wait until the thread is gone."""
        self._uvicorn.should_exit = True
        self._thread.join()


@contextmanager
def serve(app: ASGIApp, *, port: int = 0) -> Iterator[Server]:
    """`app` for the length of a `with` block, on a free port unless one is given."""
    server = Server(app, port=port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
