"""The gateway's own server: uvicorn with guarded connections, and an end that cuts nobody off who can still be served.

Told to stop, it first only says so in /readyz, and goes on accepting while load balancers find out. Then it closes its
listener and idle connections, lets what runs finish, and cuts what is left when that takes too long.
"""

import asyncio
import logging
import resource
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import HANDLED_SIGNALS

from gateway.conditions import ServerConditions
from gateway.headers import security_headers
from gateway.protocol import GuardedProtocol
from gateway.readiness import Drain
from gateway.settings import Settings

logger = logging.getLogger(__name__)

# Logs, and connections to stores.
OTHER_FILES = 200


class Server(uvicorn.Server):
    """Serves `app` at `host` and `port`, unless `run` is given a socket."""

    def __init__(self, app: ASGIApp, settings: Settings, drain: Drain, *, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http=GuardedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=settings.shutdown_seconds,
        )
        super().__init__(config)
        self.server_state = ServerConditions(
            max_connections=settings.max_connections,
            hardening=security_headers(https_only=settings.env != "development"),
            drain=drain,
        )
        self._drain = drain
        self._drain_seconds = settings.drain_seconds

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stop in order at the first signal, at once at the second; uvicorn would end by the signal, not with 0."""
        loop = asyncio.get_running_loop()
        for signum in HANDLED_SIGNALS:
            loop.add_signal_handler(signum, self._on_signal)
        try:
            yield
        finally:
            for signum in HANDLED_SIGNALS:
                loop.remove_signal_handler(signum)

    def _on_signal(self) -> None:
        if self._drain.begun:
            self._quit()
            return
        self._drain.begun = True
        logger.info("draining", extra={"seconds": self._drain_seconds})
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _quit(self) -> None:
        self.should_exit = self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def allow_open_files(settings: Settings) -> None:
    """Raise this process's limit of open files to what its connections need, as far as the system lets it."""
    needed = settings.max_connections + 3 * settings.upstream_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        logger.warning("too few open files allowed for all connections", extra={"needed": needed, "allowed": allowed})
