"""What all connections of the server share, and how many there may be."""

import asyncio

from uvicorn.server import ServerState

from gateway.headers import Header
from gateway.readiness import Drain


class ServerConditions(ServerState):
    """uvicorn's, with a bound on connections, what every reply says, and whether the server is about to stop."""

    def __init__(self, *, max_connections: int, hardening: tuple[Header, ...], drain: Drain) -> None:
        super().__init__()
        self._max_connections = max_connections
        # Those without a request: not begun yet, or answered; the one without for longest is the first.
        self.unused: dict[asyncio.Transport, None] = {}
        self.hardening = hardening
        self.drain = drain

    def has_room(self) -> bool:
        """Whether the newest connection may stay; if need be an unused one goes, lest idlers lock others out."""
        if len(self.connections) <= self._max_connections:
            return True
        if not self.unused:
            return False
        longest = next(iter(self.unused))
        del self.unused[longest]
        longest.abort()
        return True
