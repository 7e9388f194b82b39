"""Command line of the embedded system: `python -m devstack up`, and what can be done while it is up."""

import argparse
import asyncio
import functools
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from devstack.ask import Question, ask, describe
from devstack.console import Console
from devstack.games import available_games, load_game, read_game
from devstack.gateway import GatewayError, signed_in
from devstack.keys import rotate_keys
from devstack.launch import ServerError
from devstack.postgres import Postgres
from devstack.runner import ProcessError, Runner
from devstack.services import CLIENTS, ROLES, SERVICES, migration_process
from devstack.settings import Settings, SettingsError
from devstack.state import kept_secrets, read_running, remove_state, stop_running, write_loaded_game
from devstack.up import up

WAIT_SECONDS = 300.0
# As a shell says of a command that Ctrl-C has ended.
INTERRUPTED = 130


def main() -> int:
    """Runs the command of the command line."""
    options = _parser().parse_args()
    return exit_code(lambda: _run(options, Settings.from_environment()))


def _open_standard_streams() -> None:
    """The number of one that the caller closed would go to a socket, and be lost to a child's own stream."""
    sys.stdin = sys.stdin or Path(os.devnull).open()  # noqa: SIM115 - for as long as we live
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Hangul gets question marks


def exit_code(command: Callable[[], int]) -> int:
    """Runs a command: 1 means that something failed, 2 that it was asked for in a way that cannot work."""
    _open_standard_streams()
    try:
        return command()
    except SettingsError as error:
        print(f"dugout: {error}", file=sys.stderr)
        return 2
    except httpx.TransportError as error:
        print(f"dugout: no answer from {error.request.url} ({type(error).__name__}); is it up?", file=sys.stderr)
        return 1
    except (ServerError, ProcessError, GatewayError, OSError) as error:
        print(f"dugout: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devstack",
        description="Dugout on this machine: Postgres, Redis and all services, without Docker.",
        epilog="Environment: DUGOUT_PORT, the gateway's port (8000; the next six are used too, when free); "
        "DUGOUT_STATE, the folder that keeps data and secrets (.dugout in the clone); DUGOUT_URL, a system to talk to "
        "other than the one of that folder; OPENAI_API_KEY and OPENAI_BASE_URL, a model to answer with.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start everything, ask two questions, stay up until Ctrl-C")
    commands.add_parser("demo", help="the same, then stop")
    asking = commands.add_parser("ask", help="ask the running system a question")
    asking.add_argument("--game", required=True, help="slug of a loaded game, such as wesnoth")
    asking.add_argument("--locale", choices=("ko", "en"), help="language of the answer (default: that of the question)")
    asking.add_argument("question")
    loading = commands.add_parser("games", help="load sample games into the running system")
    loading.add_argument("names", nargs="*", metavar="NAME", help="default: all of data/")
    waiting = commands.add_parser("wait", help="wait until the gateway is ready")
    waiting.add_argument("--seconds", type=float, default=WAIT_SECONDS, help="give up after (default: %(default)s)")
    commands.add_parser("down", help="stop a system started in another terminal")
    commands.add_parser("clean", help="delete the state folder: all data and secrets")
    commands.add_parser("logs", help="follow the log file")
    commands.add_parser("rotate-keys", help="sign tokens with a new key, and wait until it does (about a minute)")
    commands.add_parser("migrate", help="bring the running system's schemas to their newest version")
    return parser


def _run(options: argparse.Namespace, settings: Settings) -> int:
    match options.command:
        case "up" | "demo":
            return 0 if up(settings, stay=options.command == "up") else INTERRUPTED
        case "ask":
            asyncio.run(_ask(settings, Question(options.game, options.question, options.locale)))
        case "games":
            asyncio.run(_load(settings, options.names or available_games(settings.data)))
        case "wait":
            return _wait(settings, options.seconds)
        case "down":
            print("stopped" if stop_running(settings.state) else "Dugout is not running here")
        case "clean":
            remove_state(settings.state)
        case "logs":
            _follow_log(settings)
        case "rotate-keys":
            asyncio.run(_rotate_keys(settings))
        case "migrate":
            asyncio.run(_migrate(settings))
    return 0


def _url(settings: Settings) -> str:
    return settings.url or read_running(settings.state).gateway_url


async def _ask(settings: Settings, question: Question) -> None:
    if not question.text.strip():
        raise SettingsError(f'ask what? make ask GAME={question.game} Q="…"')
    async with signed_in(_url(settings), "player") as player:
        print(describe(question, await ask(player, question)))


async def _load(settings: Settings, names: Sequence[str]) -> None:
    games = [read_game(settings.data, name) for name in names]
    async with signed_in(_url(settings), "admin") as operator:
        for game in games:
            await load_game(operator, game, print)
            if settings.url is None:
                write_loaded_game(settings.state, game.folder.name, game.digest())


async def _rotate_keys(settings: Settings) -> None:
    async with signed_in(_url(settings), "admin") as operator:
        await rotate_keys(operator, functools.partial(print, flush=True))


def _wait(settings: Settings, seconds: float) -> int:
    """Ready means that `up` has said so and the gateway still agrees."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{_url(settings)}/readyz", trust_env=False).is_success:
                return 0
            reason = "it is not ready"
        except (SettingsError, httpx.TransportError) as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise GatewayError(f"gave up after {seconds:.0f} s: {reason}")
        time.sleep(0.2)


def _follow_log(settings: Settings) -> None:
    if not settings.log.exists():
        raise SettingsError(f"there is no log at {settings.log} yet")
    os.execvp("tail", ["tail", "-n", "100", "-F", str(settings.log)])  # noqa: S606, S607 - follows a rotated file too


async def _migrate(settings: Settings) -> None:
    runner = Runner(Console())
    port = read_running(settings.state).postgres_port
    secrets = kept_secrets(settings.state, ROLES, CLIENTS)
    for service in SERVICES:
        await runner.run(migration_process(service, Postgres(port, password=""), secrets))
        print(f"{service}: newest version")


if __name__ == "__main__":
    sys.exit(main())
