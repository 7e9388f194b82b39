"""A request as it is sent to a service: its head in bytes, and how its body is framed."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from common.errors import BadRequestError
from gateway.headers import Header

Body = bytes | AsyncIterator[bytes]


class Outgoing(NamedTuple):
    """A request as it shall be sent; `silence` is the longest the service may stay without a word, in seconds."""

    method: str
    target: bytes
    headers: list[Header]
    body: Body
    # What the caller declared, or None: then a body in pieces is sent chunked.
    content_length: bytes | None
    silence: float

    def head(self, host: bytes) -> bytes:
        """Request line, headers and framing."""
        lines = [b"%b %b HTTP/1.1\r\nhost: %b" % (self.method.encode(), self.target, host)]
        lines += [b"%b: %b" % header for header in self.headers]
        if self.content_length is not None:
            lines.append(b"content-length: " + self.content_length)
        elif not isinstance(self.body, bytes):
            lines.append(b"transfer-encoding: chunked")
        elif self.body:
            lines.append(b"content-length: %d" % len(self.body))
        head = b"\r\n".join([*lines, b"", b""])
        # Our server lets no such header in; a header that could begin another one must not leave either.
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
            raise BadRequestError
        return head
