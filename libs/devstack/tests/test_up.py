"""Tests of holding a system: start, every way to stop it, and what it says when it cannot start."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import pytest

from devstack.launch import free_port
from devstack.state import remove_state

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

TINY_SYSTEM = Path(__file__).parent / "tiny_system.py"
SECONDS = 30


class System:
    """A tiny system in a process of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = free_port()
        self.output = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self, tiny: str = "", command: Sequence[str] = (sys.executable, str(TINY_SYSTEM))) -> "System":
        own = {"TINY": tiny, "DUGOUT_STATE": str(self.state), "DUGOUT_PORT": str(self.port)}
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self

    def read_until(self, text: str) -> str:
        """The line that holds `text`; what came before is in `output`."""
        assert self.process is not None
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.output += line
            if text in line:
                return line
        raise AssertionError(f"ended without {text!r}:\n{self.output}")

    def send(self, signum: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def send_to_group(self, signum: signal.Signals) -> None:
        """As a terminal does it: to every process that is not in a session of its own."""
        assert self.process is not None
        os.killpg(self.process.pid, signum)

    def end(self) -> int:
        """Waits for its end; the exit code."""
        assert self.process is not None
        self.output += self.process.communicate(timeout=SECONDS)[0]
        return self.process.returncode

    def remove(self) -> None:
        """Stops it if its test has not, and deletes its data."""
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGTERM)
            self.end()
        remove_state(self.state)

    def left_over(self) -> list[str]:
        """Processes that still belong to it, databases included."""
        numbered = (process for process in Path("/proc").iterdir() if process.name.isdigit())
        return [str(process) for process in numbered if self._owns(process)]

    def wait_until_nothing_is_left(self) -> None:
        """Nobody tells when the last process has gone once their parent was killed, so this looks again and again."""
        deadline = time.monotonic() + SECONDS
        while left := self.left_over():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)

    def _owns(self, process: Path) -> bool:
        try:
            working, marks = (process / "cwd").readlink(), (process / "environ").read_bytes()
        except OSError:  # gone, a zombie, or somebody else's
            return False
        homes = [folder.resolve() for folder in self.state.iterdir() if folder.is_dir()]
        return f"TINY_STATE={self.state}".encode() in marks or any(working.is_relative_to(home) for home in homes)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A system not yet started, gone afterwards."""
    system = System(tmp_path / "state")
    yield system
    system.remove()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[System]:
    """Another one."""
    other = System(tmp_path / "other")
    yield other
    other.remove()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_everything_in_order_and_leaves_no_process_and_no_port(
    system: System, signum: signal.Signals
) -> None:
    system.start().read_until("ready, database")
    assert len(system.left_over()) > 4
    system.send_to_group(signum)
    assert system.end() == 0
    assert re.findall(r"(\S+) goes", system.output)[:2] == ["gateway", "coach"]
    assert set(re.findall(r"(\S+) goes", system.output)[2:]) == {"worker", "worker-celery"}
    assert "stopped; the data are kept" in system.output
    assert system.left_over() == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", system.port))


def test_second_signal_kills_a_service_that_does_not_listen(system: System) -> None:
    system.start("stubborn").read_until("ready, database")
    system.send(signal.SIGINT)
    system.read_until("gateway goes")
    began = time.monotonic()
    system.send(signal.SIGINT)
    assert system.end() == 0
    assert time.monotonic() - began < 10  # its patience alone is 15 s
    assert system.left_over() == []


def test_kill_of_the_parent_leaves_no_process(system: System) -> None:
    system.start().read_until("ready, database")
    assert len(system.left_over()) > 4
    system.send(signal.SIGKILL)
    system.end()
    system.wait_until_nothing_is_left()
    system.start().read_until("ready, database")


def test_signal_during_the_start_leaves_no_process(system: System) -> None:
    system.start("unready").read_until("worker-celery runs")
    system.send(signal.SIGTERM)
    assert system.end() == 0
    assert system.left_over() == []


def test_kill_of_make_stops_what_it_started(system: System, tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"up:\n\t@{sys.executable} {TINY_SYSTEM}\n")
    system.start(command=("make", "-f", str(makefile), "up")).read_until("ready, database")
    system.send(signal.SIGKILL)
    system.end()
    assert "stopped; the data are kept" in system.output
    assert system.left_over() == []


def test_interrupted_demo_has_not_succeeded(system: System) -> None:
    system.start(command=(sys.executable, "-m", "devstack", "demo")).read_until("preparing roles")
    system.send(signal.SIGTERM)
    assert system.end() == 130
    assert system.left_over() == []


def test_closed_standard_streams_are_no_obstacle(system: System) -> None:
    closed = f"exec {sys.executable} {TINY_SYSTEM} <&- 2>&-"
    system.start(command=("bash", "-c", closed)).read_until("ready, database")
    system.send(signal.SIGTERM)
    assert system.end() == 0


def test_service_that_ends_by_itself_is_named_and_stops_all(system: System) -> None:
    assert system.start("failing").end() == 1
    assert "coach ended by itself (exit code 3):\n  coach | coach runs" in system.output
    assert system.left_over() == []


async def test_second_start_finds_the_data_of_the_first(system: System) -> None:
    for statement in ("CREATE TABLE kept AS SELECT 42 AS number", "SELECT 1"):
        url = (await asyncio.to_thread(system.start().read_until, "ready, database")).split()[-1]
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        assert await connection.fetchval("SELECT number FROM kept") == 42
        await connection.close()
        system.send(signal.SIGINT)
        await asyncio.to_thread(system.end)
    assert "using the data in" in system.output


def test_taken_gateway_port_is_said_in_one_line(system: System) -> None:
    with socket.create_server(("127.0.0.1", system.port)):
        assert system.start().end() == 2
    assert system.output == f"dugout: port {system.port} is taken: set DUGOUT_PORT to another one\n"


def test_second_start_on_one_state_folder_is_refused(system: System) -> None:
    system.start().read_until("ready, database")
    assert system.process is not None
    second = System(system.state)
    assert second.start().end() == 2
    assert f"is in use by process {system.process.pid}: stop that one (make down)" in second.output


def test_two_systems_started_at_once_run_side_by_side(system: System, other: System) -> None:
    system.start()
    other.start()
    for each in (system, other):
        each.read_until("ready, database")
    for each in (system, other):
        each.send(signal.SIGTERM)
        assert each.end() == 0


def test_everything_listens_on_loopback_only(system: System) -> None:
    system.start().read_until("ready, database")
    inodes = {
        str(link.readlink()).removeprefix("socket:[").removesuffix("]")
        for process in system.left_over()
        for link in Path(process, "fd").iterdir()
        if link.is_symlink()
    }
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in inodes
    ]
    assert len(listening) >= 7
    assert {address.partition(":")[0] for address in listening} == {"0100007F"}


def test_log_file_holds_every_process_and_is_not_for_others(system: System) -> None:
    system.start().read_until("ready, database")
    log = system.state / "logs" / "dugout.log"
    assert "coach         | coach runs" in log.read_text()
    assert log.parent.stat().st_mode & 0o077 == 0


def test_closed_terminal_does_not_disturb_the_stop(system: System) -> None:
    system.start().read_until("ready, database")
    assert system.process is not None
    assert system.process.stdout is not None
    system.process.stdout.close()
    system.send(signal.SIGHUP)
    assert system.process.wait(SECONDS) == 0
    assert system.left_over() == []
    assert "stopped; the data are kept" in (system.state / "logs" / "dugout.log").read_text()
