"""A system to talk to: the one at DUGOUT_URL, or an embedded one of this run's own; and people signed in to it.

With DUGOUT_STATE, the state folder of the system at DUGOUT_URL, tests may look into its stores too.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .scan import Stores

# A first start makes a database and loads two games.
START_SECONDS = 300.0
STOP_SECONDS = 60.0
JOB_SECONDS = 60.0
# In a system of this run's own; in production it takes minutes until everybody is asked once more.
ERASURE_REPEAT_SECONDS = 5.0
# No test here is about limits, and together they would reach some.
MANY = (100_000, 1)
BY_PLAN = dict.fromkeys(("free", "premium"), MANY)
LIMITS: dict[str, Any] = {
    **dict.fromkeys(("ask", "player", "export"), BY_PLAN),
    **dict.fromkeys(("sign_in", "account", "ops", "failed_tokens"), MANY),
    "questions_per_day": dict.fromkeys(("free", "premium"), 100_000),
}
TIMEOUT = httpx.Timeout(60, connect=5)

SignIn = Callable[..., httpx.Client]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of these tests waits for the system to start; what may ban and erase whomever it finds comes last."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(START_SECONDS + STOP_SECONDS + 120))
    items.sort(key=lambda item: item.path.name == "test_document.py")


@dataclass(frozen=True)
class System:
    """Where it is: the gateway's address, and the state folder if that is on this machine."""

    url: str
    state: Path | None


@pytest.fixture(scope="session")
def url(system: System) -> str:
    """The gateway's address."""
    return system.url


@pytest.fixture(scope="session")
def stores(system: System) -> Stores:
    """The stores behind it."""
    if system.state is None:
        pytest.skip("the stores of a system elsewhere cannot be looked into; DUGOUT_STATE names the state folder")
    return Stores(system.state)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The system itself."""
    if given := os.environ.get("DUGOUT_URL"):
        state = os.environ.get("DUGOUT_STATE")
        yield System(given.rstrip("/"), Path(state) if state else None)
        return
    folder, port = tmp_path_factory.mktemp("system"), _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    environment |= {"DUGOUT_PORT": str(port), "DUGOUT_STATE": str(folder / "state")}
    environment |= {"DUGOUT_ERASURE_REPEAT_SECONDS": f"[{ERASURE_REPEAT_SECONDS}]", "DUGOUT_LIMITS": json.dumps(LIMITS)}
    with (folder / "output").open("w+") as output:
        command = (sys.executable, "-m", "devstack", "up")
        running = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_up(running, folder / "output")
            yield System(f"http://127.0.0.1:{port}", folder / "state")
        finally:
            _stop(running)
            # Started by root, its data are not below `folder`, which pytest will delete by itself.
            subprocess.run((sys.executable, "-m", "devstack", "clean"), env=environment, check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(system: subprocess.Popen[bytes], output: Path) -> None:
    """Games loaded, questions answered: that is what `up` says last."""
    deadline = time.monotonic() + START_SECONDS
    while "Dugout is up" not in (said := output.read_text(errors="replace")):
        if system.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the system did not start:\n{said[-8000:]}")
        time.sleep(0.2)


def _stop(system: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does; nothing of it may stay."""
    family = _descendants(system.pid)
    system.send_signal(signal.SIGINT)
    try:
        code = system.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        system.kill()
        pytest.fail(f"the system did not stop within {STOP_SECONDS:.0f} s")
    left = [name for pid, name in family.items() if _name(pid) == name]
    assert (code, left) == (0, [])


def _descendants(pid: int) -> dict[int, str]:
    """Processes below `pid` with their names; where there is no /proc, none."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            found = re.search(r"^PPid:\s*(\d+)", status.read_text(), re.MULTILINE)
        except OSError:  # it has just ended
            continue
        if found:
            parents[int(status.parent.name)] = int(found[1])
    below, newest = set[int](), {pid}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest} - below
        below |= newest
    return {child: _name(child) for child in below}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.fixture(scope="session")
def sign_in(url: str) -> Iterator[SignIn]:
    """Signs somebody new in; keywords are those of the development login, such as `role="admin"`."""
    clients: list[httpx.Client] = []

    def sign_in(**who: str) -> httpx.Client:
        client = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)
        clients.append(client)
        reply = client.post("/auth/dev/login", json={"email": f"{uuid4().hex}@example.com", **who})
        assert reply.status_code == 200, reply.text
        client.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"
        return client

    yield sign_in
    for client in clients:
        client.close()


@pytest.fixture
def player(sign_in: SignIn) -> httpx.Client:
    """A new player, with nothing asked and no limit touched."""
    return sign_in()


@pytest.fixture(scope="session")
def somebody(sign_in: SignIn) -> httpx.Client:
    """Any player; sign-in is limited too."""
    return sign_in()


@pytest.fixture(scope="session")
def viewer(sign_in: SignIn) -> httpx.Client:
    """An operator who may only look."""
    return sign_in(role="viewer")


@pytest.fixture
def nobody(url: str) -> Iterator[httpx.Client]:
    """Somebody who is not signed in."""
    with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def admin(sign_in: SignIn) -> httpx.Client:
    """An operator."""
    return sign_in(role="admin")


@pytest.fixture(scope="session")
def game(admin: httpx.Client) -> str:
    """The slug of a game of this run's own, so that nothing of it can be in a cache yet."""
    slug = f"e2e-{uuid4().hex[:12]}"
    card = {
        "slug": slug,
        "titles": {"en": "Test Arena", "ko": "시험 경기장"},
        "locales": ["en", "ko"],
        "patch": "1.0",
        "template": "default",
        "context": {"shared": {"role": ["attack", "defence"]}, "private": {"nickname": {"max_length": 40}}},
    }
    reply = admin.put(f"/admin/games/{slug}", json=card)
    assert reply.status_code == 200, reply.text
    text = "\n\n".join(
        f"The level {level} Granite Golem costs {cost} gold and has {health} hit points. "
        "It resists blades and fears frost."
        for level, cost, health in ((1, 14, 40), (2, 31, 55), (3, 52, 72))
    )
    upload(admin, slug, "golems.txt", text, title="Granite Golems", locale="en")
    return slug


def upload(admin: httpx.Client, game: str, filename: str, text: str, **fields: str) -> dict[str, Any]:
    """The finished job of a document given to `game`."""
    form = {"game": game, "source": "end-to-end test", "licence": "CC0-1.0", **fields}
    reply = admin.post("/admin/documents", data=form, files={"file": (filename, text.encode())})
    assert reply.status_code == 202, reply.text
    job: dict[str, Any] = reply.json()
    deadline = time.monotonic() + JOB_SECONDS
    while job["state"] not in ("succeeded", "failed"):
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
        job = admin.get(f"/admin/jobs/{job['id']}").json()
    assert job["state"] == "succeeded", job
    return job


def ask(player: httpx.Client, game: str, question: str, **more: Any) -> dict[str, Any]:
    """The answer to a question that must succeed."""
    reply = player.post("/api/coach/ask", json={"game": game, "question": question, **more})
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer
