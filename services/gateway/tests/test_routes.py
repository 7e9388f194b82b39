"""Tests of `gateway.routes`: which row a path leads to, and that no disguise leads elsewhere."""

import time
from urllib.parse import unquote

import httpx
import pytest

from gateway.routes import ROUTES, find_route
from gateway.settings import Limit, Limits

from .conftest import ScriptedService, connected, head, read_head


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/auth", "/auth"),
        ("/auth/me", "/auth"),
        ("/auth/me/export", "/auth/me/export"),
        ("/auth/me/exports", "/auth"),
        ("/auth/google/login", "/auth/google"),
        ("/auth/googles", "/auth"),
        ("/.well-known/jwks.json", "/.well-known/jwks.json"),
        ("/api/coach/games", "/api/coach"),
        ("/api/coach/ask", "/api/coach/ask"),
        ("/api/coach/asks", "/api/coach"),
        ("/admin/", "/admin"),
        ("/admin/documents/1", "/admin/documents"),
        ("/admin/문서", "/admin"),
    ],
)
def test_longest_prefix_wins_at_a_segment_border(path: str, prefix: str) -> None:
    route = find_route(path, path.encode().decode("latin-1"))
    assert route is not None
    assert route.prefix == prefix


NOWHERE = (
    "/",
    "/authority",
    "/administrator",
    "/api",
    "/api/coaches",
    "/.well-known/jwks.json/more",
    "/.well-known/openid-configuration",
    "/internal",
    "/internal/token",
    "/retrieve",
    "/remember",
    "/metrics",
    "/metrics/",
    "//metrics",
    "/%6detrics",
    "//internal/token",
    "/api/coach//internal",
    "/api/coach/../../internal/token",
    "/api/coach/..",
    "/api/coach/./ask",
    "/api/coach/..%2finternal",
    "/api/coach/..%2F..%2Finternal/token",
    "/api/coach/%2e%2e/internal",
    "/api/coach/%2E./internal",
    "/api/coach%2fask",
    "/api/coach/..%5cinternal",
    "/api/coach/..\\internal",
    "/api/coach/%00",
    "/api/coach/a%0d%0ab",
)


@pytest.mark.parametrize("raw_path", NOWHERE)
def test_nothing_else_is_public_however_it_is_spelt(raw_path: str) -> None:
    assert find_route(unquote(raw_path), raw_path) is None


def test_a_path_costs_no_more_than_its_length() -> None:
    path = "/auth" + "/a" * 30_000
    began = time.process_time()
    route = find_route(path, path)
    assert time.process_time() - began < 0.1  # a second or more when every prefix of it is looked up
    assert route is not None
    assert route.prefix == "/auth"


async def test_what_leads_nowhere_never_reaches_a_service(
    gateway: httpx.AsyncClient, service: ScriptedService, signed_in: dict[str, str]
) -> None:
    for raw_path in NOWHERE:
        async with connected(gateway) as (reader, writer):
            writer.write(head("GET", raw_path, signed_in))
            status, text = await read_head(reader)
        assert (status, "application/problem+json" in text) == (404, True), raw_path
    assert service.requests == []


def test_every_row_has_the_kind_of_limit_its_callers_have() -> None:
    for route in ROUTES:
        counted_by_address = isinstance(getattr(Limits(), route.limit), Limit)
        assert counted_by_address == (route.who != "required"), route
