"""Which headers pass the gateway, in either direction, and what it says itself."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

from common import logs

Header = tuple[bytes, bytes]
Network = IPv4Network | IPv6Network

# RFC 9110 §7.6.1: these belong to one connection.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding"
    b" upgrade".split()
)
# Only the gateway speaks for these to a service; Expect was answered by our own server.
_FROM_CLIENT = _HOP_BY_HOP | frozenset(
    b"host content-length expect forwarded x-real-ip x-request-id traceparent tracestate baggage".split()
)
_FROM_CLIENT_PREFIXES = (b"dugout-", b"x-forwarded-")

_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
# Server and Date are added by our own server, the request id by RequestMiddleware, the others by `security_headers`.
_FROM_SERVICE = _HOP_BY_HOP | frozenset(
    (b"server", b"date", b"x-request-id", _HTTPS_ONLY[0], *(name for name, _ in _SECURITY))
)


def security_headers(*, https_only: bool) -> tuple[Header, ...]:
    """What every reply says to browsers."""
    return (*_SECURITY, _HTTPS_ONLY) if https_only else _SECURITY


def to_service(scope: Scope, told: Mapping[bytes, bytes], client: str, proxies: Sequence[Network]) -> list[Header]:
    """The client's headers, in `told` by name, without those it may not set, and with who it is and which request."""
    dropped = _FROM_CLIENT
    if b"connection" in told:
        dropped |= _named_by_connection(scope["headers"])
    kept = [
        header
        for header in scope["headers"]
        if header[0] not in dropped and not header[0].startswith(_FROM_CLIENT_PREFIXES)
    ]
    outer = told.get(b"x-forwarded-proto") if _is_trusted(scope["client"][0], proxies) else None
    kept += (
        (b"x-forwarded-for", client.encode()),
        (b"x-forwarded-proto", outer or scope["scheme"].encode()),
        (b"x-forwarded-host", told.get(b"host", b"")),
        (b"x-request-id", (logs.request_id.get() or "").encode()),
    )
    return kept


def to_client(status: int, received: Sequence[Header]) -> list[Header]:
    """A service's headers, names in lower case, that are the client's business."""
    dropped = _FROM_SERVICE | _named_by_connection(received)
    if status in (204, 304):  # it would be that of a 200, and our own server would miss a body
        dropped |= {b"content-length"}
    return [header for header in received if header[0] not in dropped and not header[0].startswith(b"dugout-")]


def client_address(scope: Scope, proxies: Sequence[Network]) -> str:
    """The caller's address: the peer's, or the last one in X-Forwarded-For that no trusted proxy stands for."""
    peer: str = scope["client"][0]
    if not _is_trusted(peer, proxies):
        return peer
    hops = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    for hop in reversed(hops.split(",")):
        address = hop.strip()
        if not _is_trusted(address, proxies):
            return address if _parsed(address) else peer
    return peer


@lru_cache(maxsize=10_000)
def client_network(address: str) -> str:
    """What is limited as one caller: an IPv4 address, or the /64 that an IPv6 subscriber has to himself."""
    parsed = _parsed(address)
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed or address)


def _is_trusted(address: str, proxies: Sequence[Network]) -> bool:
    parsed = _parsed(address) if proxies else None
    return parsed is not None and any(parsed in network for network in proxies)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    # Listeners for both families write 192.0.2.1 as ::ffff:192.0.2.1, and all of those would be one /64.
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def _named_by_connection(headers: Iterable[Header]) -> frozenset[bytes]:
    """Headers that `Connection: …` makes hop-by-hop."""
    return frozenset(
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    )
