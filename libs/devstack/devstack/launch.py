"""Starts a server process that gives up root and cannot outlive us, and stops it again."""

import ctypes
import fcntl
import importlib.util
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PR_SET_PDEATHSIG = 1
PREDECESSOR_SECONDS = 60
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# Enough for a server; nothing of ours (keys, tokens) leaks into it.
SERVER_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


class ServerError(RuntimeError):
    """A server did not start; the message ends with the last lines it logged."""


def wheel(package: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerError(f"the package {package} is not installed; is there a wheel for this system?")
    return Path(spec.origin).parent


def server_user() -> pwd.struct_passwd | None:
    """Whom servers run as when we are root (Postgres refuses root); nobody else needs to change user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def dies_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` with which Linux sends `signum` when the thread that forked ends, by kill -9 too.

    So fork from the main thread. Elsewhere `tether` does this.
    """
    if LIBC is None:
        return None
    parent = os.getpid()

    def bind() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:  # it died between fork and prctl
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def end_with_parent(signum: signal.Signals) -> None:
    """Linux sends us `signum` when our parent ends, whatever ended it."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signum))


def tethered(command: Sequence[str | Path], signum: signal.Signals) -> list[str]:
    """The command as it is on Linux; elsewhere under a supervisor that watches for our end."""
    words = [str(word) for word in command]
    if LIBC is not None:
        return words
    return [sys.executable, "-m", "devstack.tether", str(os.getpid()), str(int(signum)), *words]


@contextmanager
def sole_user(home: Path) -> Iterator[int]:
    """A lock to start the server of a folder with. The server inherits it, so it is free once none of its processes
    lives: after a kill -9 of the parent, the next start waits here until the server has stopped.
    """
    deadline = time.monotonic() + PREDECESSOR_SECONDS
    with (home / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerError(f"the server that used {home} before does not stop") from None
                time.sleep(0.05)
        yield lock.fileno()


def start(
    command: Sequence[str | Path], *, folder: Path, log: Path, signum: signal.Signals, lock: int | None = None
) -> subprocess.Popen[bytes]:
    """Runs `command` in a session of its own (a Ctrl-C is ours to hand on), logging to `log`."""
    user = server_user()
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own commands
            tethered(command, signum),
            cwd=folder,
            env=SERVER_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
            preexec_fn=dies_with_parent(signum),
        )


def stop(process: subprocess.Popen[bytes], signum: signal.Signals, patience: float = 20) -> None:
    """Asks a process to end and waits; kills it when its patience is over."""
    if process.poll() is None:
        process.send_signal(signum)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port free right now; whoever uses it must be ready to lose the race for it and ask again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a server's log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
