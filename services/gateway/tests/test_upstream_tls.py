"""Tests of `gateway.upstream` before services behind TLS: certificates are checked."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.outgoing import Outgoing
from gateway.upstream import Upstream, open_upstream

BODY = bytes(300_000)
QUESTION = Outgoing("GET", b"/", [], b"", None, 5)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a certificate for localhost, signed by itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    file = tmp_path / "localhost.pem"
    file.write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
async def port(certificate: Path) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
        except asyncio.IncompleteReadError:
            writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def body(upstream: Upstream) -> bytes:
    reply = await upstream.ask(QUESTION)
    pieces = [piece async for piece in reply]
    reply.finish()
    return b"".join(pieces)


async def test_a_certificate_that_the_system_trusts_is_taken(
    port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with open_upstream("coach", f"https://localhost:{port}") as upstream:
        for _ in range(2):
            assert await body(upstream) == BODY


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_one_of_nobody_or_for_somebody_else_is_not(
    host: str, port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host == "127.0.0.1":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with open_upstream("coach", f"https://{host}:{port}") as upstream:
        with pytest.raises(httpx.ConnectError):
            await upstream.ask(QUESTION)
