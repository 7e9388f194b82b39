"""Reads server-sent events off a real socket, one by one as they arrive."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx


class Event(NamedTuple):
    """One event; a comment has the name `:`."""

    name: str
    id: str
    data: Any


@asynccontextmanager
async def asking(
    url: str, player: dict[str, str], body: dict[str, Any], **headers: str
) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of one question; leaving the block hangs up."""
    everything = {**player, "Accept": "text/event-stream", **headers}
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
        client.stream("POST", "/api/coach/ask", json=body, headers=everything) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        yield _events(response)


async def _events(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            yield Event(":", "", line)
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}
