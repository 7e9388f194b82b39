"""The public API as these commands use it: signed in by the development login, errors told in one line."""

from collections.abc import Generator
from typing import Any, Literal

import httpx

Role = Literal["player", "admin"]

# An answer of a real model may take this long.
TIMEOUT = httpx.Timeout(120, connect=5)


class GatewayError(RuntimeError):
    """The system answered with a problem, or not at all."""


class DevelopmentLogin(httpx.Auth):
    """Signs in at the first request, and again when the token has run out."""

    requires_response_body = True

    def __init__(self, base_url: str, role: Role) -> None:
        self._login = httpx.Request(
            "POST", f"{base_url}/auth/dev/login", json={"email": f"{role}@example.com", "role": role}
        )
        self._token: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._token is None:
            self._take(request, (yield self._login))
        request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._take(request, (yield self._login))
            yield request

    def _take(self, request: httpx.Request, reply: httpx.Response) -> None:
        self._token = read(reply)["access_token"]
        request.headers["Authorization"] = f"Bearer {self._token}"


def signed_in(base_url: str, role: Role) -> httpx.AsyncClient:
    """A client for `async with`; no proxy stands between us and this machine."""
    return httpx.AsyncClient(base_url=base_url, auth=DevelopmentLogin(base_url, role), timeout=TIMEOUT, trust_env=False)


def read(response: httpx.Response) -> Any:
    """The body of a good reply; otherwise what the problem document says."""
    if response.is_success:
        return response.json()
    try:
        problem = response.json()
        reason = f"{problem['code']}: {problem.get('detail') or problem['title']}"
    except (ValueError, KeyError, TypeError):
        reason = response.text[:300]
    raise GatewayError(f"{response.request.method} {response.request.url} answered {response.status_code} ({reason})")
