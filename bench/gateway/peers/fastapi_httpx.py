"""The proxy one writes first: a FastAPI route that passes all on by httpx. No token, no limit, no header rules.

`UPSTREAM` is the address behind it, `TRANSPORT` httpx's own (`default`) or `aiohttp`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from httpx_aiohttp import HttpxAiohttpClient
from starlette.background import BackgroundTask

UPSTREAM = os.environ["UPSTREAM"]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    kind = HttpxAiohttpClient if os.environ["TRANSPORT"] == "aiohttp" else httpx.AsyncClient
    async with kind(base_url=UPSTREAM) as client:
        yield {"client": client}


app = FastAPI(lifespan=_lifespan)


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def forward(request: Request) -> Response:
    """Ask the service behind and stream its reply."""
    client: httpx.AsyncClient = request.state.client
    asked = client.build_request(
        request.method,
        httpx.URL(path=request.url.path, query=request.url.query.encode()),
        headers=[(name, value) for name, value in request.headers.raw if name != b"host"],
        content=await request.body(),
    )
    reply = await client.send(asked, stream=True)
    return StreamingResponse(
        reply.aiter_raw(), reply.status_code, dict(reply.headers), background=BackgroundTask(reply.aclose)
    )
