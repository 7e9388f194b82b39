"""One connection to Redis with nothing in between: commands as bytes, replies in their order.

The layers of redis-py cost several times what Redis and the way to it do, and a request that comes alone waits for all
of it. What is rare, addresses and failures, is in redis-py's words; hiredis, its parser, reads the replies.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis import RedisError
from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

# A reply, or the RedisError in its place.
Then = Callable[[Any], None]


class Wire(asyncio.Protocol):
    """`call`s may follow each other without waiting; whoever calls bounds the time and `abort`s."""

    def __init__(self) -> None:
        self._replies = hiredis.Reader()
        self._waiting: deque[Then] = deque()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether a command may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def call(self, *command: str | int | bytes, then: Then) -> None:
        """Send a command; `then` is given its reply, or what became of it, once."""
        if self._transport is None:
            then(RedisConnectionError("not connected"))
            return
        self._waiting.append(then)
        self._transport.write(hiredis.pack_command(cast("Any", command)))

    def abort(self) -> None:
        """Close at once; what was called is answered with an error."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets(False)) is not False:
                then = self._waiting.popleft()
                then(ResponseError(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply)
        except (hiredis.ProtocolError, IndexError):  # not Redis, or a reply to nothing
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._transport = None
        while self._waiting:
            self._waiting.popleft()(RedisConnectionError("connection lost"))


async def open_wire(redis: Redis) -> Wire:
    """Connect to where `redis` would, as whom it would; raises RedisError, OSError."""
    loop = asyncio.get_running_loop()
    # Never opened: it knows what the address says, and what addresses leave out.
    told: Any = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    if isinstance(told, UnixDomainSocketConnection):
        _, wire = await loop.create_unix_connection(Wire, told.path)
    else:
        context = told.ssl_context.get() if isinstance(told, SSLConnection) else None
        _, wire = await loop.create_connection(Wire, told.host, told.port, ssl=context)
    try:
        if told.password:
            await _replied(wire, "AUTH", told.username or "default", told.password)
        if told.db:
            await _replied(wire, "SELECT", told.db)
    except BaseException:
        wire.abort()
        raise
    return wire


async def _replied(wire: Wire, *command: str | int) -> None:
    reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(answer: Any) -> None:
        if not reply.done():  # or nobody waits any more
            reply.set_result(answer)

    wire.call(*command, then=answered)
    if isinstance(answer := await reply, RedisError):
        raise answer
