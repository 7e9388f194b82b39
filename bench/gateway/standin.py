"""The service behind every proxy: takes any request and answers the same small JSON document, as fast as Python can.

Usage: python -m bench.gateway.standin PORT      (ends with SIGTERM)

Its reply has the shape of an OpenAI chat completion, since that is what LiteLLM must be able to read, and a size that
is usual for an API, about 1 kB. A raw protocol, not an ASGI app, so that it is never what is being measured.
"""

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop

ANSWER = "Spearmen level up into swordsmen, pikemen or javelineers. Against mounted units take the pikeman. " * 8
COMPLETION = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}],
    "usage": {"prompt_tokens": 812, "completion_tokens": 143, "total_tokens": 955},
}
BODY = json.dumps(COMPLETION).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Standin(asyncio.Protocol):
    """One connection; the parser calls us when a request is complete."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        if self._transport:
            self._transport.write(REPLY)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Standin, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
