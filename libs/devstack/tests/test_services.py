"""Tests of the process table: ports, and that a process gets its own secrets and nobody else's."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import get_args

import pytest

from devstack.launch import free_port
from devstack.listeners import Listener, reserve
from devstack.postgres import Postgres
from devstack.redis import Kind, Redis
from devstack.services import (
    CLIENTS,
    FOR_ALL,
    FOR_AUTH,
    FOR_COACH,
    FOR_GATEWAY,
    FOR_WORKER,
    ROLES,
    SERVICES,
    Process,
    System,
    bootstrap_process,
    migration_process,
    service_processes,
)
from devstack.settings import CLONE, SettingsError
from devstack.state import Secrets

SECRETS = Secrets(
    {role: f"{role}-password" for role in ROLES}, {c: f"{c}-client" for c in CLIENTS}, "fernet-key", "erasure-key"
)
USER = {"PATH": "/bin", "OPENAI_API_KEY": "sk-user", "AWS_SECRET_ACCESS_KEY": "aws", "COVERAGE_PROCESS_START": "x"}


@pytest.fixture
def listeners() -> Iterator[dict[str, Listener]]:
    with ExitStack() as held:
        yield reserve(free_port(), SERVICES, held)


@pytest.fixture
def system(listeners: dict[str, Listener]) -> System:
    redis = {kind: Redis(port, f"{kind}-password") for port, kind in enumerate(get_args(Kind), 6379)}
    return System(listeners, 8006, Postgres(5432, "superuser-password"), redis, SECRETS, USER)


@pytest.fixture
def processes(system: System) -> dict[str, Process]:
    return {process.name: process for process in service_processes(system)}


def holders(processes: dict[str, Process], secret: str) -> set[str]:
    return {name for name, process in processes.items() if secret in json.dumps(dict(process.environment))}


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("superuser-password", set()),
        ("coach_owner-password", set()),
        ("coach-password", {"coach"}),
        ("auth-password", {"auth"}),
        ("fernet-key", {"auth"}),
        ("erasure-key", {"auth"}),
        ("gateway-client", {"auth", "gateway"}),
        ("coach-client", {"auth", "coach"}),
        ("rag-client", {"auth", "rag"}),
        ("worker-client", {"auth", "worker", "worker-celery"}),
        ("cache-password", {"rag"}),
        ("state-password", {"gateway"}),
        ("broker-password", {"worker", "worker-celery"}),
        ("sk-user", {"coach"}),
        ("aws", set()),
    ],
)
def test_secret_reaches_only_those_who_need_it(processes: dict[str, Process], secret: str, expected: set[str]) -> None:
    assert holders(processes, secret) == expected


def test_processes_inherit_only_what_is_listed(processes: dict[str, Process]) -> None:
    for process in processes.values():
        foreign = {name for name in process.environment if not name.startswith("DUGOUT_")}
        assert foreign == {"PATH", "COVERAGE_PROCESS_START", "PYTHONUNBUFFERED"}


def test_the_configuration_guide_names_all_that_up_hands_on() -> None:
    guide = (CLONE / "docs" / "configuration.md").read_text()
    _, told = next(row.split("to hand on:") for row in guide.splitlines() if "to hand on:" in row)
    assert set(re.findall(r"`(\w+)`", told)) == set().union(FOR_ALL, FOR_GATEWAY, FOR_AUTH, FOR_COACH, FOR_WORKER)


def test_bootstrap_alone_is_superuser_and_migrations_are_owners(system: System) -> None:
    assert "superuser-password" in json.dumps(dict(bootstrap_process(system).environment))
    environment = migration_process("coach", system.postgres, SECRETS).environment
    owner = "postgresql+asyncpg://coach_owner:coach_owner-password@127.0.0.1:5432/postgres"
    assert environment["DUGOUT_MIGRATION_DATABASE_URL"] == owner
    assert "superuser-password" not in json.dumps(dict(environment))


def test_gateway_stops_first_and_workers_last(processes: dict[str, Process]) -> None:
    turns = {name: process.stop_turn for name, process in processes.items()}
    assert min(turns, key=lambda name: turns[name]) == "gateway"
    assert {name for name, turn in turns.items() if turn == max(turns.values())} == {"worker", "worker-celery"}


def test_ports_above_the_gateways_are_used_unless_taken() -> None:
    with ExitStack() as held:
        port = next(p for p in iter(free_port, 0) if _free(range(p, p + 4)))
        held.enter_context(socket.create_server(("127.0.0.1", port + 2)))
        urls = [listener.url for listener in reserve(port, ("auth", "coach", "rag"), held).values()]
    assert urls[:2] == [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
    assert urls[2] not in {f"http://127.0.0.1:{port + 2}", urls[3]}
    assert urls[3] == f"http://127.0.0.1:{port + 3}"


def _free(ports: range) -> bool:
    try:
        for port in ports:
            socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_taken_gateway_port_is_an_error() -> None:
    with ExitStack() as held, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} is taken: set DUGOUT_PORT"):
            reserve(port, (), held)
