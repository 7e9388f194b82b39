"""What is measured: how each proxy starts, and the request it is sent."""

import json
import shutil
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.load import Request
from bench.gateway.processes import PROXY_CORE, server

from devstack.launch import free_port

PEERS = Path(__file__).parent / "peers"
LITELLM = Path(".bench/litellm/bin/litellm")
LITELLM_KEY = "sk-bench-master-key"
ASK = "/api/coach/ask"
BODY = json.dumps({"game": "wesnoth", "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "창병?" * 20}]})
UNLIMITED = [100_000_000, 60]


@dataclass(frozen=True)
class Behind:
    """What the proxies find on this machine, and where logs may be written."""

    standin: int
    auth_url: str
    redis_url: str
    tokens: tuple[str, ...]
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.standin}"


@dataclass(frozen=True)
class Target:
    """A running proxy: the request for it, and its process (none for the stand-in itself)."""

    request: Request
    process: int | None


def message(port: int, path: str, token: str) -> bytes:
    """A player's question as bytes."""
    body = BODY.encode()
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        "Accept: application/json",
        "Accept-Language: ko",
        "User-Agent: UnityPlayer/6000.0 (bench)",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


def direct(behind: Behind) -> Target:
    """The stand-in without anything before it."""
    return Target(_questions(behind.standin, behind.tokens), None)


@contextmanager
def gateway(behind: Behind) -> Iterator[Target]:
    """Ours, as it runs in production but for limits that are never reached (they are counted all the same)."""
    per_player = {"free": UNLIMITED, "premium": UNLIMITED}
    a_day = {"free": UNLIMITED[0], "premium": UNLIMITED[0]}
    environment = {
        "DUGOUT_ENV": "development",
        "DUGOUT_CLIENT_SECRET": "gateway-secret-of-the-benchmark",
        "DUGOUT_STATE_REDIS_URL": behind.redis_url,
        "DUGOUT_AUTH_URL": behind.auth_url,
        "DUGOUT_COACH_URL": behind.url,
        "DUGOUT_ADMIN_URL": behind.url,
        "DUGOUT_LIMITS": json.dumps({"ask": per_player, "questions_per_day": a_day}),
    }
    with _proxy("gateway", [sys.executable, "-m", "gateway"], behind, environment) as target:
        yield target


@contextmanager
def fastapi_httpx(transport: str, behind: Behind) -> Iterator[Target]:
    """A FastAPI route on httpx with its `default` or the `aiohttp` transport."""
    command = _uvicorn("bench.gateway.peers.fastapi_httpx:app")
    with _proxy(f"fastapi-{transport}", command, behind, {"UPSTREAM": behind.url, "TRANSPORT": transport}) as target:
        yield target


@contextmanager
def nginx(behind: Behind) -> Iterator[Target | None]:
    """nginx with one worker, or None where it is not installed."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        yield None
        return
    port, configuration = free_port(), behind.folder / "nginx.conf"
    template = string.Template((PEERS / "nginx.conf").read_text())
    configuration.write_text(
        template.safe_substitute(folder=str(behind.folder), upstream=str(behind.standin), port=str(port))
    )
    with _listening("nginx", [binary, "-p", str(behind.folder), "-c", str(configuration)], port, behind, {}) as target:
        yield target


@contextmanager
def litellm(behind: Behind) -> Iterator[Target]:
    """LiteLLM's proxy with one worker and key auth, its model being the stand-in."""
    port, configuration = free_port(), behind.folder / "litellm.yaml"
    configuration.write_text((PEERS / "litellm.yaml").read_text())
    environment = {"UPSTREAM": f"{behind.url}/v1", "LITELLM_MASTER_KEY": LITELLM_KEY, "LITELLM_MODE": "PRODUCTION"}
    command = [str(LITELLM), "--config", str(configuration), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1"]
    log = behind.folder / "litellm.log"
    with server(command, port, core=PROXY_CORE, log=log, environment=environment, patience=120) as process:
        yield Target(Request(port, (message(port, "/v1/chat/completions", LITELLM_KEY),)), process.pid)


def _uvicorn(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", *arguments]


@contextmanager
def _proxy(name: str, command: Sequence[str], behind: Behind, environment: Mapping[str, str]) -> Iterator[Target]:
    port = free_port()
    with _listening(name, [*command, "--port", str(port)], port, behind, environment) as target:
        yield target


@contextmanager
def _listening(
    name: str, command: Sequence[str], port: int, behind: Behind, environment: Mapping[str, str]
) -> Iterator[Target]:
    log = behind.folder / f"{name}.log"
    with server(command, port, core=PROXY_CORE, log=log, environment=environment) as process:
        yield Target(_questions(port, behind.tokens), process.pid)


def _questions(port: int, tokens: Sequence[str]) -> Request:
    return Request(port, tuple(message(port, ASK, token) for token in tokens))
