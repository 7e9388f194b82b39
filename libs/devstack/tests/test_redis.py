"""Tests of the embedded Redis: real servers from the wheel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import devstack.redis
from devstack import launch
from devstack.folders import remove_home
from devstack.launch import ServerError, free_port
from devstack.redis import Kind, Redis, run_redis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with run_redis(tmp_path_factory.mktemp("module"), "cache", throwaway=True) as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A folder for data that outlive their server."""
    yield tmp_path
    for home in tmp_path.iterdir():
        remove_home(home)


def client_of(server: Redis) -> "redis.Redis":
    return redis.Redis.from_url(server.url, decode_responses=True)


@pytest.mark.parametrize(
    ("kind", "policy", "bounded"),
    [("cache", "volatile-lfu", True), ("state", "noeviction", False), ("broker", "noeviction", False)],
)
def test_only_the_cache_forgets(state: Path, kind: Kind, policy: str, *, bounded: bool) -> None:
    with run_redis(state, kind) as server, client_of(server) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": policy}
        assert (client.config_get("maxmemory") != {"maxmemory": "0"}) is bounded
        assert client.config_get("appendonly") == {"appendonly": "yes"}


@pytest.mark.parametrize("kind", ["cache", "state", "broker"])
def test_restart_keeps_data_and_password(state: Path, kind: Kind) -> None:
    with run_redis(state, kind) as first, client_of(first) as client:
        client.set("kept", "42")
    with run_redis(state, kind) as second, client_of(second) as client:
        assert second.password == first.password
        assert client.get("kept") == "42"


def test_nobody_gets_in_without_the_password(server: Redis) -> None:
    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_password_is_in_no_command_line_and_no_readable_file(state: Path) -> None:
    with run_redis(state, "state") as server:
        home = (state / "redis-state").resolve()
        holders = [file for file in home.iterdir() if file.is_file() and server.password in file.read_text()]
        assert sorted(file.name for file in holders) == ["password", "redis.conf"]
        assert {file.stat().st_mode & 0o777 for file in holders} == {0o600}
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            assert server.password.encode() not in process.read_bytes()


def test_vector_sets_are_there_without_a_module(server: Redis) -> None:
    with client_of(server) as client:
        client.execute_command("VADD", "vectors", "VALUES", 2, 1, 0, "east")
        assert client.execute_command("VSIM", "vectors", "VALUES", 2, 1, 0.1) == ["east"]
        assert client.module_list() == [] or all(m["name"] == "vectorset" for m in client.module_list())


def test_port_lost_to_a_neighbour_is_replaced(server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = iter([server.port, free_port()])
    monkeypatch.setattr(devstack.redis, "free_port", lambda: next(ports))
    with run_redis(tmp_path, "state", throwaway=True) as second:
        assert second.port != server.port


def test_data_of_a_living_server_are_left_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PREDECESSOR_SECONDS", 0.1)
    with run_redis(state, "state"), pytest.raises(ServerError, match="does not stop"), run_redis(state, "state"):
        pass


def test_server_that_cannot_start_says_why(state: Path) -> None:
    with run_redis(state, "state"):
        manifest = next((state / "redis-state" / "data" / "appendonlydir").glob("*.manifest"))
    manifest.write_text("nonsense\n")
    with pytest.raises(ServerError, match=r"(?s)Redis \(state\) did not start:.*manifest"), run_redis(state, "state"):
        pass


def test_throwaway_server_leaves_nothing(tmp_path: Path) -> None:
    with run_redis(tmp_path, "broker", throwaway=True):
        home = (tmp_path / "redis-broker").resolve()
        assert home.exists()
    assert not home.exists()
    assert list(tmp_path.iterdir()) == []
