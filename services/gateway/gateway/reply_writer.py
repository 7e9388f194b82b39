"""How a reply is written: its head together with what of its body is there, as one packet.

uvicorn writes them apart, so a client is woken twice for nearly every reply, first for a head that is of no use alone.
"""

import asyncio


class ReplyWriter:
    """What uvicorn needs of a transport to write one reply; the first write waits for the second, but never longer than
    this turn of the loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._has_begun = False

    def write(self, data: bytes) -> None:
        """Write, at the latest when the loop comes round."""
        if self._has_begun:
            head, self._head = self._head or b"", None
            self._transport.write(head + data)
        else:
            self._has_begun, self._head = True, data
            asyncio.get_running_loop().call_soon(self._flush)

    def close(self) -> None:
        """Close once all is written."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether anything more would be written in vain."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            if not self._transport.is_closing():
                self._transport.write(head)
