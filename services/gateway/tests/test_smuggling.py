"""Tests of `gateway.request_head` and `gateway.protocol`: a request that two servers could read differently is none."""

import asyncio

import pytest

from .process import GatewayProcess, RawService, connection

# Stands for a request that an attacker hides in another one.
HIDDEN = b"GET /api/coach/hidden HTTP/1.1\r\nHost: g\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POST = b"POST /api/coach/ask HTTP/1.1\r\nHost: g\r\n"
GET = b"GET /api/coach/games HTTP/1.1\r\nHost: g\r\n"

PROBES = {
    # Two lengths, or none that is clear.
    "content-length before chunked": POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "chunked before content-length": POST + CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\n" + HIDDEN,
    "differing content-lengths": POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "equal content-lengths": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "list of content-lengths": POST + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
    "content-length with a plus": POST + b"Content-Length: +5\r\n\r\nhello",
    "content-length with a minus": POST + b"Content-Length: -5\r\n\r\nhello",
    "content-length in hex": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "content-length of two numbers": POST + b"Content-Length: 5 5\r\n\r\nhello",
    "content-length that overflows": POST + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "empty content-length": POST + b"Content-Length:\r\n\r\n" + HIDDEN,
    # Codings that one server might take for chunked and the next one not.
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "vertical tab before chunked": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' + HIDDEN,
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "chunked, then identity": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "folded transfer-encoding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked in HTTP/1.0": b"POST /api/coach/ask HTTP/1.0\r\nHost: g\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    # Lines.
    "folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "folded first header": b"GET /api/coach/games HTTP/1.1\r\n X: a\r\nHost: g\r\n\r\n",
    "bare line feeds": GET.replace(b"\r\n", b"\n") + b"\n",
    "bare line feed after a header": GET + b"X-A: b\nX-C: d\r\n\r\n",
    "bare carriage return in a header": GET + b"X-A: b\rX-C: d\r\n\r\n",
    "null in a value": GET + b"X-A: b\x00c\r\n\r\n",
    "null in a name": GET + b"X\x00: b\r\n\r\n",
    "control character in a value": GET + b"X-A: b\x01c\r\n\r\n",
    "header without a colon": GET + b"X-A\r\n\r\n",
    "header without a name": GET + b": b\r\n\r\n",
    # Whom it is for, and who it is from.
    "no host": b"GET /api/coach/games HTTP/1.1\r\n\r\n",
    "no host in HTTP/1.0": b"GET /api/coach/games HTTP/1.0\r\n\r\n",
    "empty host": b"GET /api/coach/games HTTP/1.1\r\nHost:\r\n\r\n",
    "two hosts": GET + b"Host: h\r\n\r\n",
    "two equal hosts": GET + b"Host: g\r\n\r\n",
    "host with a path": b"GET /api/coach/games HTTP/1.1\r\nHost: g/x\r\n\r\n",
    "host with a user": b"GET /api/coach/games HTTP/1.1\r\nHost: u@g\r\n\r\n",
    "address of another host": b"GET http://h/api/coach/games HTTP/1.1\r\nHost: g\r\n\r\n",
    "address of another scheme": b"GET ftp://g/api/coach/games HTTP/1.1\r\nHost: g\r\n\r\n",
    "fragment": b"GET /api/coach/games#x HTTP/1.1\r\nHost: g\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: g\r\n\r\n",
    "two authorizations": GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    # Versions and methods.
    "HTTP/0.9": b"GET /api/coach/games\r\n\r\n",
    "HTTP/0.9 by name": b"GET /api/coach/games HTTP/0.9\r\nHost: g\r\n\r\n",
    "HTTP/2.0 by name": b"GET /api/coach/games HTTP/2.0\r\nHost: g\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another protocol": b"DESCRIBE /api/coach/games RTSP/1.0\r\nHost: g\r\n\r\n",
    "trace": b"TRACE /api/coach/games HTTP/1.1\r\nHost: g\r\n\r\n",
    "connect": b"CONNECT g:443 HTTP/1.1\r\nHost: g\r\n\r\n" + HIDDEN,
    "space in the target": b"GET /api/coach/games x HTTP/1.1\r\nHost: g\r\n\r\n",
    "null in the target": b"GET /api/coach/\x00 HTTP/1.1\r\nHost: g\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    # Chunks.
    "negative chunk": POST + CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n",
    "chunk in 0x": POST + CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk with a plus": POST + CHUNKED + b"\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk that overflows": POST + CHUNKED + b"\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "chunk without a size": POST + CHUNKED + b"\r\n\r\nhello\r\n0\r\n\r\n",
    "chunk with garbage after its size": POST + CHUNKED + b"\r\n5g\r\nhello\r\n0\r\n\r\n",
    "chunk with a space after its size": POST + CHUNKED + b"\r\n5 \r\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": POST + CHUNKED + b"\r\n5\r\nhelloXX\r\n0\r\n\r\n" + HIDDEN,
    "chunk without its line end": POST + CHUNKED + b"\r\n5\r\nhello0\r\n\r\n" + HIDDEN,
    "chunk with bare line feeds": POST + CHUNKED + b"\r\n5\nhello\n0\n\n" + HIDDEN,
    "line feed in a chunk's extension": POST + CHUNKED + b"\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "length among the trailers": POST + CHUNKED + b"\r\n0\r\nContent-Length: 40\r\n\r\n" + HIDDEN,
    "trailer without a colon": POST + CHUNKED + b"\r\n0\r\nx y\r\n\r\n",
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
async def test_what_could_be_read_in_two_ways_reaches_no_service(
    probe: bytes, process: GatewayProcess, raw_coach: RawService, signed_in: dict[str, str]
) -> None:
    seen: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            seen.append(data)
            if b"\r\n0\r\n\r\n" in data or b"GET" in data:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    raw_coach.handler = note
    if b"authorization" not in probe.lower():
        token = b"Host: g\r\nAuthorization: %s\r\n" % signed_in["Authorization"].encode()
        probe = probe.replace(b"Host: g\r\n", token, 1)
    async with connection(process.port) as (reader, writer):
        writer.write(probe)
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"hidden" not in b"".join(seen)
    assert not any(data.endswith(b"0\r\n\r\n") for data in seen), "a service took it for whole"
