"""Tests of the embedded Postgres: a real server from the wheel."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import devstack.postgres
from devstack import launch
from devstack.folders import remove_home
from devstack.launch import ServerError, free_port
from devstack.postgres import Postgres, run_postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with run_postgres(tmp_path_factory.mktemp("module"), throwaway=True) as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A folder for data that outlive their server."""
    yield tmp_path
    remove_home(tmp_path / "postgres")


async def query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_database_has_vectors_and_sorts_by_unicode(server: Postgres) -> None:
    assert await query(server.url(), "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == 1
    assert await query(server.url(), "SHOW server_encoding") == "UTF8"
    assert await query(server.url(), "SELECT lower('ÄÖ 궁수')") == "äö 궁수"


async def test_nobody_gets_in_without_the_password(server: Postgres) -> None:
    for password in ("", "wrong"):
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InternalClientError)):
            await query(server.url(password=password), "SELECT 1")


def test_url_quotes_what_is_special_in_addresses() -> None:
    assert Postgres(1, "x").url("a b", "p@/:w", "d") == "postgresql://a%20b:p%40%2F%3Aw@127.0.0.1:1/d"


async def test_restart_keeps_data_and_password(state: Path) -> None:
    with run_postgres(state) as first:
        await query(first.url(), "CREATE TABLE kept AS SELECT 42 AS number")
    with run_postgres(state) as second:
        assert second.password == first.password
        assert await query(second.url(), "SELECT number FROM kept") == 42


def test_throwaway_server_leaves_nothing(tmp_path: Path) -> None:
    with run_postgres(tmp_path, throwaway=True):
        home = (tmp_path / "postgres").resolve()
        assert (home / "data").exists()
    assert not home.exists()
    assert list(tmp_path.iterdir()) == []


async def test_zombie_of_a_killed_server_does_not_stop_the_next(state: Path) -> None:
    first = run_postgres(state)
    await query(first.__enter__().url(), "CREATE TABLE kept AS SELECT 42 AS number")
    pid = int((state / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead now, and left unreaped
    with run_postgres(state) as second:
        assert await query(second.url(), "SELECT number FROM kept") == 42
    first.__exit__(None, None, None)


def test_data_of_a_living_server_are_left_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PREDECESSOR_SECONDS", 0.1)
    with run_postgres(state), pytest.raises(ServerError, match="does not stop"), run_postgres(state):
        pass


def test_interrupted_first_start_is_made_good(state: Path) -> None:
    with run_postgres(state):
        home = (state / "postgres").resolve()
    (home / "data").rename(home / "data.unfinished")
    (home / "data.unfinished" / "PG_VERSION").unlink()
    with run_postgres(state):
        assert not (home / "data.unfinished").exists()


def test_port_lost_to_a_neighbour_is_replaced(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([server.port, free_port()])
    monkeypatch.setattr(devstack.postgres, "free_port", lambda: next(ports))
    with run_postgres(tmp_path, throwaway=True) as second:
        assert second.port != server.port


def test_server_that_cannot_start_says_why(state: Path) -> None:
    with run_postgres(state):
        pass
    settings = state / "postgres" / "data" / "postgresql.conf"
    settings.write_text("shared_buffers = 'plenty'\n")
    with pytest.raises(ServerError, match=r"(?s)Postgres did not start:.*shared_buffers"), run_postgres(state):
        pass


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root has rights to give up")
def test_root_runs_it_as_another_user_without_other_groups(server: Postgres) -> None:
    command = ("pgrep", "-f", f"postgres .*-p {server.port}")
    pid = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split()
    assert status["Groups"].split() == []
