"""Event streams being sent, which end when the token they were opened with is revoked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from fastapi.sse import format_sse_event
from starlette.types import Message, Scope, Send

from common.claims import PlayerClaims
from common.errors import caller_locale, problem
from common.revocations import Revocations, Revoked, RevokedError
from gateway.headers import Header

# A reader that has stopped reading must not hold up the end.
FAREWELL_SECONDS = 1.0
_EVENT_STREAM = b"text/event-stream"
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")

Relay = Callable[[Send], Awaitable[None]]


class _Stream:
    """One stream: what was sent last, and a deadline that is set when it has to end."""

    def __init__(self, epoch: int, send: Send) -> None:
        self.epoch = epoch
        self.deadline = asyncio.timeout(None)
        self._send = send
        self._is_ending = False
        # The last bytes sent; empty while some are on their way, since nobody knows then how many have left.
        self._tail = b""

    def end(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            self.deadline.reschedule(asyncio.get_running_loop().time())

    async def send(self, message: Message) -> None:
        tail, self._tail = self._tail, b""
        await self._send(message)
        # Headers end with an empty line, as events do.
        self._tail = (tail + message["body"])[-4:] if message["type"] == "http.response.body" else b"\r\n\r\n"

    async def take_leave(self, scope: Scope) -> None:
        """A last event that says why. In the middle of one there is no place for it: without a last message the server
        cuts the connection."""
        if not self._tail.endswith(_EVENT_ENDS):
            return
        document = problem(RevokedError(), locale=_locale(scope), instance=scope["path"])
        event = format_sse_event(event="error", data_str=document.model_dump_json(exclude_none=True))
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._send({"type": "http.response.body", "body": event, "more_body": False})


class OpenStreams:
    """All event streams of this process, by session."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._streams: dict[str, set[_Stream]] = {}
        revocations.on_revoked = self._end

    async def carry(
        self, relay: Relay, headers: Sequence[Header], player: PlayerClaims | None, scope: Scope, send: Send
    ) -> bool:
        """Let `relay` send its reply; if that is an event stream, only as long as the player's token holds.

        Whether it held.
        """
        if player and any(name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in headers):
            return await self._carry_stream(relay, player, scope, send)
        await relay(send)
        return True

    async def _carry_stream(self, relay: Relay, player: PlayerClaims, scope: Scope, send: Send) -> bool:
        stream = _Stream(player.epoch, send)
        of_session = self._streams.setdefault(player.sid, set())
        of_session.add(stream)
        try:
            async with stream.deadline:
                if self._revocations.voids(player.sid, player.epoch):  # since the token was verified
                    stream.end()
                await relay(stream.send)
        except TimeoutError:
            if not stream.deadline.expired():
                raise
            await stream.take_leave(scope)
            return False
        else:
            return True
        finally:
            of_session.discard(stream)
            if not of_session:
                del self._streams[player.sid]

    def _end(self, revoked: Revoked) -> None:
        for stream in self._streams.get(revoked.sid, ()):
            if stream.epoch < revoked.epoch:
                stream.end()


def _locale(scope: Scope) -> str:
    languages = dict(scope["headers"]).get(b"accept-language", b"")
    return caller_locale(languages.decode("latin-1"))
