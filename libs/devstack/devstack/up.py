"""`up` and `demo`: the whole system, from nothing to two answered questions."""

import asyncio
import os
import shlex
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from devstack.ask import ask, describe
from devstack.console import Console
from devstack.games import load_game, read_game
from devstack.gateway import signed_in
from devstack.launch import end_with_parent
from devstack.listeners import Listener, port_near, reserve
from devstack.postgres import run_postgres
from devstack.redis import Kind, run_redis
from devstack.runner import Runner
from devstack.services import (
    CLIENTS,
    ROLES,
    SERVICES,
    System,
    bootstrap_process,
    migration_process,
    service_processes,
)
from devstack.settings import CLONE, Settings
from devstack.state import Running, kept_secrets, loaded_games, locked, write_loaded_game, write_running

# Loaded at the first start; `games` loads the others.
START_GAMES = ("wesnoth", "chess")
RULE = "─" * 100


@dataclass(frozen=True)
class Started:
    """What a story is told with: the databases run, the services do not yet."""

    settings: Settings
    console: Console
    runner: Runner
    system: System


Story = Callable[[Started], Coroutine[Any, Any, None]]


def up(settings: Settings, *, stay: bool) -> bool:
    """Runs the system until a signal, or until its two questions are answered; False if a signal came before that."""
    return hold(settings, partial(_story, stay=stay)) or stay


def hold(settings: Settings, story: Story) -> bool:
    """Holds state folder, ports and databases while `story` lasts; leaves nothing running.

    False when a signal ended it.
    """
    if "MAKELEVEL" in os.environ:  # who kills `make up` means us
        end_with_parent(signal.SIGTERM)
    with ExitStack() as held:
        held.enter_context(locked(settings.state))
        return asyncio.run(_hold(settings, reserve(settings.port, SERVICES, held), story))


async def _hold(settings: Settings, listeners: Mapping[str, Listener], story: Story) -> bool:
    with closing(Console(settings.log)) as console:
        runner = Runner(console)
        _stop_on_signals(runner, console)
        try:
            with ExitStack() as servers:
                system = _start_servers(settings, console, listeners, servers)
                try:
                    await runner.guard(story(Started(settings, console, runner, system)))
                finally:
                    await runner.stop()
            return True
        except asyncio.CancelledError:  # by a signal, which is how `up` is meant to end
            return False
        finally:
            console.say("stopped; the data are kept")


def _stop_on_signals(runner: Runner, console: Console) -> None:
    """The first signal stops everything in order; another one kills the services, never the databases."""
    loop, story = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if story is None or runner.stopping or story.cancelling():
            runner.hurry()
        else:
            console.say("stopping")
            story.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signum, on_signal)


def _start_servers(
    settings: Settings, console: Console, listeners: Mapping[str, Listener], servers: ExitStack
) -> System:
    """Postgres and the three Redis, which stop after everything that uses them."""
    first = not (settings.state / "postgres").exists()
    console.say(f"{'first start: making a database' if first else 'using the data'} in {settings.state}")
    postgres = servers.enter_context(run_postgres(settings.state))
    kinds: tuple[Kind, ...] = get_args(Kind)
    redis = {kind: servers.enter_context(run_redis(settings.state, kind)) for kind in kinds}
    ports = ", ".join(f"Redis ({kind}) {server.port}" for kind, server in redis.items())
    console.say(f"listening on 127.0.0.1: Postgres {postgres.port}, {ports}")
    metrics_port = port_near(settings.port + len(listeners))
    return System(listeners, metrics_port, postgres, redis, kept_secrets(settings.state, ROLES, CLIENTS), os.environ)


async def _story(started: Started, *, stay: bool) -> None:
    runner, system, console = started.runner, started.system, started.console
    begin = time.monotonic()
    console.say("preparing roles and schemas")
    await runner.run(bootstrap_process(system))
    await asyncio.gather(
        *(runner.run(migration_process(service, system.postgres, system.secrets)) for service in SERVICES)
    )
    console.say("starting the services")
    for process in service_processes(system):
        await runner.start(process)
    await runner.ready()
    console.say(f"all services are ready after {time.monotonic() - begin:.1f} s")
    urls = {service: system.url(service) for service in SERVICES}
    write_running(started.settings.state, Running(system.url("gateway"), system.postgres.port, urls))
    await _load_games(started)
    await _show_answers(started)
    if stay:
        await asyncio.Event().wait()


async def _load_games(started: Started) -> None:
    data, state = started.settings.data, started.settings.state
    async with signed_in(started.system.url("gateway"), "admin") as operator:
        for name in START_GAMES:
            game = read_game(data, name)
            if loaded_games(state).get(name) != game.digest():
                with started.console.quiet():
                    await load_game(operator, game, started.console.say)
                write_loaded_game(state, name, game.digest())


async def _show_answers(started: Started) -> None:
    """Asks the first game's first question in each language; the answers come last, where they are seen."""
    url = started.system.url("gateway")
    questions = read_game(started.settings.data, START_GAMES[0]).questions()
    async with signed_in(url, "player") as player:
        answers = [describe(question, await ask(player, question)) for question in questions]
    parts = [*answers, _directions(started.settings, started.system)]
    started.console.show(f"\n{RULE}\n" + f"\n{RULE}\n".join(parts) + f"\n{RULE}")


def _directions(settings: Settings, system: System) -> str:
    url = system.url("gateway")
    services = "  ".join(f"{name} {system.url(name)}" for name in SERVICES)
    state = "" if settings.state == CLONE / ".dugout" else f"DUGOUT_STATE={shlex.quote(str(settings.state))} "
    return "\n".join(
        [
            "Dugout is up.",
            f"  gateway      {url}",
            f"  API docs     {url}/docs",
            f"  metrics      http://127.0.0.1:{system.metrics_port}/metrics (the gateway's), /metrics of each service:",
            f"               {services}",
            f'  ask again    {state}make ask GAME={START_GAMES[0]} Q="…"',
            f"  more games   {state}make games",
            f"  log file     {settings.log}",
            f"  stop         Ctrl-C here, or {state}make down",
        ]
    )
