"""The state folder: one `up` at a time, secrets made once, and how other commands find the running system."""

import base64
import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from devstack.folders import remove_home, write_private
from devstack.settings import SettingsError

STOP_SECONDS = 60


@dataclass(frozen=True)
class Running:
    """A system that is up, written down for the other commands."""

    gateway_url: str
    postgres_port: int
    # Addresses by service: past the gateway, for who looks for a fault, or proves that each one guards itself.
    service_urls: dict[str, str]


@dataclass(frozen=True)
class Secrets:
    """Made at the first start and kept, since the data depend on them."""

    role_passwords: dict[str, str]
    client_secrets: dict[str, str]
    key_encryption_key: str
    erasure_key: str


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Holds the state folder for one `up`; its data cannot be shared."""
    state.mkdir(mode=0o711, parents=True, exist_ok=True)  # servers that gave up root pass through it
    with (state / "lock").open("a+") as lock:
        if not _try_lock(lock):
            raise SettingsError(
                f"{state} is in use by process {_holder(lock)}: stop that one (make down), or set DUGOUT_STATE"
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            (state / "running.json").unlink(missing_ok=True)


def stop_running(state: Path) -> bool:
    """Asks the `up` of this state folder to stop and waits for its end; False if there is none."""
    if not (state / "lock").exists():
        return False
    with (state / "lock").open("a+") as lock:
        if _try_lock(lock):
            return False
        while not (holder := _holder(lock)):  # it has only just locked
            time.sleep(0.01)
        os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise SettingsError(f"process {_holder(lock)} does not stop")
            time.sleep(0.1)
    return True


def remove_state(state: Path) -> None:
    """Deletes the data, including what had to be put elsewhere (see `server_home`)."""
    if not state.exists():
        return
    with locked(state):
        for entry in state.iterdir():
            if entry.is_symlink():
                remove_home(entry)
    shutil.rmtree(state)


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: IO[str]) -> int:
    lock.seek(0)
    return int(lock.read() or 0)


def kept_secrets(state: Path, roles: tuple[str, ...], clients: tuple[str, ...]) -> Secrets:
    """The secrets in the state folder, completed with those that are missing."""
    path = state / "secrets.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    whole = Secrets(
        role_passwords={role: secrets.token_urlsafe(32) for role in roles} | known.get("role_passwords", {}),
        client_secrets={client: secrets.token_urlsafe(32) for client in clients} | known.get("client_secrets", {}),
        key_encryption_key=known.get("key_encryption_key") or _fernet_key(),
        erasure_key=known.get("erasure_key") or secrets.token_urlsafe(32),
    )
    if asdict(whole) != known:
        write_private(path, json.dumps(asdict(whole), indent=2), None)
    return whole


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def write_running(state: Path, running: Running) -> None:
    """Tells the other commands where the system is."""
    write_private(state / "running.json", json.dumps(asdict(running)), None)


def read_running(state: Path) -> Running:
    """Where the system of this state folder is."""
    try:
        return Running(**json.loads((state / "running.json").read_text()))
    except FileNotFoundError:
        raise SettingsError("Dugout is not running here: start it with make up, or set DUGOUT_URL") from None


def loaded_games(state: Path) -> dict[str, str]:
    """Digests of the sample games this state holds, by name."""
    path = state / "games.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_loaded_game(state: Path, name: str, digest: str) -> None:
    """Remembers a loaded game, so that the next start need not load it again."""
    write_private(state / "games.json", json.dumps(loaded_games(state) | {name: digest}), None)
