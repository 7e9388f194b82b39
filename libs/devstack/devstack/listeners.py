"""Listening sockets made before the services start, so that no other process can take their ports meanwhile."""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from devstack.settings import SettingsError


@dataclass(frozen=True)
class Listener:
    """A service's socket and base URL."""

    socket: socket.socket
    url: str


def reserve(gateway_port: int, services: Sequence[str], held: ExitStack) -> dict[str, Listener]:
    """The gateway's socket on its port, the others' on the ports above it when free, else on any."""
    listeners = {"gateway": _listen(gateway_port, held)}
    for port, service in enumerate(services, gateway_port + 1):
        try:
            listeners[service] = _listen(port, held)
        except SettingsError:
            listeners[service] = _listen(0, held)
    return listeners


def port_near(port: int) -> int:
    """`port` if it is free, else any free one; not held, for a process that must bind it itself."""
    with ExitStack() as probe:
        for candidate in (port, 0):
            with suppress(SettingsError):
                return urlsplit(_listen(candidate, probe).url).port or 0
    raise SettingsError("no port is free")


def _listen(port: int, held: ExitStack) -> Listener:
    try:
        listener = held.enter_context(socket.create_server(("127.0.0.1", port), backlog=2048))
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise SettingsError(f"port {port} {why}: set DUGOUT_PORT to another one") from None
    # uvicorn takes an inherited socket for a Unix one and leaves Nagle's algorithm on, 44 ms a request;
    # connections inherit the option from here.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(listener, f"http://127.0.0.1:{listener.getsockname()[1]}")
