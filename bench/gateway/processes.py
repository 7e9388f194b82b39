"""Child processes of a benchmark: each on a core of its own choosing, waited for, and stopped at the end."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from devstack.launch import dies_with_parent, last_lines, stop

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
# Generator, stand-in and Redis share a core, the measured proxy has one for itself; on one core all share.
LOAD_CORE, PROXY_CORE = (CORES[0], CORES[-1]) if CORES else (None, None)


def pin(core: int | None, process: int = 0) -> None:
    """Keep a process, by default this one and its future children, on one core; Linux only."""
    if core is not None:
        os.sched_setaffinity(process, {core})


def memory_mb(process: int) -> float | None:
    """The most memory a process and its children have had so far; Linux only."""
    kilobytes = [int(_status(each)["VmHWM"].split()[0]) for each in _family(process)]
    return sum(kilobytes) / 1024 if kilobytes else None


def cpu_seconds(process: int | None) -> float:
    """What a process and its children have computed so far; 0 where that is not to be had."""
    ticks = 0
    for each in _family(process):
        # The second field is the program's name, which may hold anything.
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _family(process: int | None) -> list[int]:
    """A process and its children (nginx leaves the work to one); none without /proc."""
    if process is None or not Path("/proc/self/status").exists():
        return []
    others = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [process, *(each for each in others if _status(each).get("PPid") == str(process))]


def _status(process: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@contextmanager
def server(
    command: Sequence[str],
    port: int,
    *,
    core: int | None,
    log: Path,
    environment: Mapping[str, str],
    patience: float = 30,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on `port` when the block begins and has ended after it."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=dies_with_parent(signal.SIGTERM),
        )
    try:
        pin(core, process.pid)
        _wait_for(port, process, log, patience)
        yield process
    finally:
        stop(process, signal.SIGTERM, patience=10)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen:\n{last_lines(log)}")
