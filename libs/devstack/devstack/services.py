"""The table of processes: what runs, with which environment (its own secrets and nobody else's), and when it stops."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from devstack.listeners import Listener
from devstack.postgres import Postgres
from devstack.redis import Kind, Redis
from devstack.settings import CLONE
from devstack.state import Secrets

# Services with a schema, in the order of their ports above the gateway's.
SERVICES = ("auth", "coach", "rag", "admin", "worker")
ROLES = tuple(role for service in SERVICES for role in (service, f"{service}_owner"))
CLIENTS = ("gateway", "coach", "rag", "worker", "admin")

# All that a process inherits from our environment.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
INHERITED_PREFIX = "COVERAGE_"
# What the user may set, by the process it is for.
FOR_ALL = {"DUGOUT_LOG_LEVEL": "DUGOUT_LOG_LEVEL", "DUGOUT_OTLP_ENDPOINT": "DUGOUT_OTLP_ENDPOINT"}
FOR_GATEWAY = {"DUGOUT_LIMITS": "DUGOUT_LIMITS", "DUGOUT_TIME_ZONE": "DUGOUT_TIME_ZONE"}
FOR_AUTH = {
    name: name
    for name in (
        "DUGOUT_ADMIN_EMAILS",
        "DUGOUT_GOOGLE_CLIENT_IDS",
        "DUGOUT_GOOGLE_CERTS_URL",
        "DUGOUT_ERASURE_REPEAT_SECONDS",
    )
}
FOR_COACH = {
    "OPENAI_API_KEY": "DUGOUT_OPENAI_API_KEY",
    "OPENAI_BASE_URL": "DUGOUT_OPENAI_BASE_URL",
    "DUGOUT_CHAT_MODEL": "DUGOUT_CHAT_MODEL",
    "DUGOUT_TIME_ZONE": "DUGOUT_TIME_ZONE",
}
FOR_WORKER = {"DUGOUT_SLACK_WEBHOOK_URL": "DUGOUT_SLACK_WEBHOOK_URL"}

GRACEFUL_SECONDS = "10"
UVICORN = (
    "--loop",
    "uvloop",
    "--http",
    "httptools",
    "--no-access-log",
    "--no-proxy-headers",
    "--timeout-graceful-shutdown",
    GRACEFUL_SECONDS,
)
# Root may run it here: messages are JSON, and the virtual environment may be out of another user's reach.
CELERY = (
    "-W",
    "ignore:You're running the worker with superuser",
    "-m",
    "celery",
    "--quiet",
    "--app",
    "worker.tasks:celery",
)
CELERY_WORKER = ("worker", "--queues", "interactive,ingest,maintenance", "--pool", "prefork", "--concurrency", "2")
# It has no other worker to find.
CELERY_ALONE = ("--without-mingle", "--without-gossip", "--loglevel", "INFO")


@dataclass(frozen=True)
class Process:
    """One process to run."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    listener: Listener | None = None
    stop_turn: int = 0


@dataclass(frozen=True)
class System:
    """What the environments are made of."""

    listeners: Mapping[str, Listener]
    # The gateway's, whose public port shows no metrics.
    metrics_port: int
    postgres: Postgres
    redis: Mapping[Kind, Redis]
    secrets: Secrets
    user_environment: Mapping[str, str]

    def url(self, service: str) -> str:
        return self.listeners[service].url

    def chosen_by_user(self, names: Mapping[str, str]) -> dict[str, str]:
        return {
            ours: self.user_environment[theirs] for theirs, ours in names.items() if theirs in self.user_environment
        }


def inherited_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The few variables of ours that any process may see."""
    return {
        name: value for name, value in environment.items() if name in INHERITED or name.startswith(INHERITED_PREFIX)
    }


def bootstrap_process(system: System) -> Process:
    """Makes roles, schemas and grants, as superuser."""
    environment = inherited_environment(system.user_environment) | {
        "DUGOUT_BOOTSTRAP_DATABASE_URL": system.postgres.url(),
        "DUGOUT_ROLE_PASSWORDS": json.dumps(system.secrets.role_passwords),
    }
    return Process("bootstrap", (sys.executable, "-m", "common.bootstrap"), environment)


def migration_process(service: str, postgres: Postgres, secrets: Secrets) -> Process:
    """Brings one schema to its newest version, as its owner."""
    url = _database_url(postgres, secrets, f"{service}_owner")
    environment = inherited_environment() | {"DUGOUT_MIGRATION_DATABASE_URL": url}
    return Process(f"migrate {service}", (sys.executable, "-m", "common.db", "migrate", service), environment)


def service_processes(system: System) -> list[Process]:
    """The six services and the Celery worker. The gateway stops first and the worker last."""
    own = _own_environments(system)
    shared = inherited_environment(system.user_environment) | system.chosen_by_user(FOR_ALL)
    shared |= {
        "PYTHONUNBUFFERED": "1",
        "DUGOUT_ENV": "development",
        "DUGOUT_LOG_FORMAT": "text",
        "DUGOUT_AUTH_URL": system.url("auth"),
    }
    turns = {"gateway": 0, "worker": 2}
    web = [
        Process(name, _serving(name, listener), shared | own[name], listener, turns.get(name, 1))
        for name, listener in system.listeners.items()
    ]
    celery = (sys.executable, *CELERY, *CELERY_WORKER, *CELERY_ALONE)
    return [*web, Process("worker-celery", celery, shared | own["worker"], stop_turn=2)]


def _serving(service: str, listener: Listener) -> tuple[str, ...]:
    """The command of a service; the gateway is a server of its own."""
    fd = ("--fd", str(listener.socket.fileno()))
    if service == "gateway":
        return (sys.executable, "-m", "gateway", *fd)
    return (sys.executable, "-m", "uvicorn", "--factory", f"{service}.app:build", *fd, *UVICORN)


def _database_url(postgres: Postgres, secrets: Secrets, role: str) -> str:
    return postgres.url(role, secrets.role_passwords[role]).replace("postgresql:", "postgresql+asyncpg:", 1)


def _own_environments(system: System) -> dict[str, dict[str, str]]:
    secrets, redis = system.secrets, system.redis
    own: dict[str, dict[str, str]] = {
        "gateway": {
            "DUGOUT_STATE_REDIS_URL": redis["state"].url,
            "DUGOUT_COACH_URL": system.url("coach"),
            "DUGOUT_ADMIN_URL": system.url("admin"),
            "DUGOUT_METRICS_PORT": str(system.metrics_port),
            "DUGOUT_SHUTDOWN_SECONDS": GRACEFUL_SECONDS,
            **system.chosen_by_user(FOR_GATEWAY),
        },
        "auth": {
            "DUGOUT_KEY_ENCRYPTION_KEY": secrets.key_encryption_key,
            "DUGOUT_ERASURE_KEY": secrets.erasure_key,
            "DUGOUT_SERVICE_SECRETS": json.dumps(secrets.client_secrets),
            "DUGOUT_COACH_URL": system.url("coach"),
            "DUGOUT_WORKER_URL": system.url("worker"),
            "DUGOUT_ADMIN_URL": system.url("admin"),
            **system.chosen_by_user(FOR_AUTH),
        },
        "coach": {"DUGOUT_RAG_URL": system.url("rag"), **system.chosen_by_user(FOR_COACH)},
        "rag": {
            "DUGOUT_CACHE_REDIS_URL": redis["cache"].url,
            "DUGOUT_VECTOR_FILES": str(CLONE / "data" / "*" / "vectors-*.npz"),
        },
        "worker": {
            "DUGOUT_BROKER_REDIS_URL": redis["broker"].url,
            "DUGOUT_RAG_URL": system.url("rag"),
            "DUGOUT_COACH_URL": system.url("coach"),
            **system.chosen_by_user(FOR_WORKER),
        },
        "admin": {
            "DUGOUT_COACH_URL": system.url("coach"),
            "DUGOUT_RAG_URL": system.url("rag"),
            "DUGOUT_WORKER_URL": system.url("worker"),
        },
    }
    for service in SERVICES:
        own[service]["DUGOUT_DATABASE_URL"] = _database_url(system.postgres, secrets, service)
    for client in CLIENTS:
        own[client]["DUGOUT_CLIENT_SECRET"] = secrets.client_secrets[client]
    return own
