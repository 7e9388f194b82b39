"""A system of tiny services around the real databases, held by a process of its own in the tests of `up`."""

import asyncio
import os
import sys
from pathlib import Path

from devstack.__main__ import exit_code
from devstack.services import Process, inherited_environment
from devstack.settings import Settings
from devstack.up import Started, hold

# Those that listen, with the turn in which they stop.
SERVICES = {"gateway": 0, "coach": 1, "worker": 2}
TINY_SERVICE = str(Path(__file__).with_name("tiny_service.py"))


async def story(started: Started) -> None:
    """Starts the tiny services and waits."""
    environment = inherited_environment() | {
        "TINY": os.environ["TINY"],
        "TINY_STATE": str(started.settings.state),
        "TINY_DATABASE": str(started.system.postgres.port),
    }
    for name, turn in SERVICES.items():
        listener = started.system.listeners[name]
        command = (sys.executable, TINY_SERVICE, name, str(listener.socket.fileno()))
        await started.runner.start(Process(name, command, environment, listener, turn))
    celery = (sys.executable, TINY_SERVICE, "worker-celery")
    await started.runner.start(Process("worker-celery", celery, environment, stop_turn=2))
    await started.runner.ready()
    started.console.say(f"ready, database {started.system.postgres.url()}")
    await asyncio.Event().wait()


def run() -> int:
    """Holds the system until a signal."""
    hold(Settings.from_environment(), story)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(run))
