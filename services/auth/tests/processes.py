"""Auth as processes of its own, several of them on one database."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from auth.settings import Settings

START_SECONDS = 30.0


@asynccontextmanager
async def auth_processes(settings: Settings, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client of each."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    processes = [_start(settings, listener) for listener in sockets]
    urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in sockets]
    clients = [httpx.AsyncClient(base_url=url, timeout=START_SECONDS, trust_env=False) for url in urls]
    for listener in sockets:
        listener.close()
    try:
        # The inherited listener takes the question at once, and the process answers when it has started.
        ready = await asyncio.gather(*(client.get("/readyz") for client in clients))
        assert {reply.status_code for reply in ready} == {200}
        yield clients
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(START_SECONDS)
        for client in clients:
            await client.aclose()


def _start(settings: Settings, listener: socket.socket) -> subprocess.Popen[bytes]:
    told = settings.model_dump(include={"env", "google_client_ids", "google_certs_url"})
    secrets = {name: getattr(settings, name) for name in ("database_url", "key_encryption_key", "erasure_key")}
    told |= {name: secret.get_secret_value() for name, secret in secrets.items()}
    told["service_secrets"] = {name: secret.get_secret_value() for name, secret in settings.service_secrets.items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DUGOUT_")}
    for name, value in told.items():
        environment[f"DUGOUT_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
    environment["DUGOUT_LOG_LEVEL"] = "WARNING"
    command = (sys.executable, "-m", "uvicorn", "--factory", "auth.app:build", "--fd", str(listener.fileno()))
    return subprocess.Popen((*command, "--no-access-log"), env=environment, pass_fds=(listener.fileno(),))
