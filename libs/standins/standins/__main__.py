"""Stand-ins to run by hand: `python -m standins openai --port 9999`."""

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from standins.google import CERTS, SIGN_IN, run_google
from standins.openai import ChatReply, cite_first_passage, run_openai
from standins.slack import WEBHOOK, run_slack
from standins.standin import Standin

# What a client's setting needs behind the base URL.
CLIENT_PATHS = {"openai": "/v1", "google": CERTS, "slack": WEBHOOK}
EXAMPLES = f"""examples:
  python -m standins openai --port 9999 --delay-ms 30
      then start Dugout with OPENAI_API_KEY=any OPENAI_BASE_URL=http://127.0.0.1:9999/v1
  curl http://127.0.0.1:9999/calls
      what was asked so far, as JSON: how many calls, each with its body
  python -m standins google --port 9998
      then set DUGOUT_GOOGLE_CERTS_URL to the address it prints
  curl -X POST http://127.0.0.1:9998{SIGN_IN} -d '{{"email": "player@example.com"}}'
      an ID token for POST /auth/google/login
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    shared.add_argument("--log", type=Path, metavar="FILE", help="add a line of JSON for each call to this file")
    main_parser = argparse.ArgumentParser(
        prog="python -m standins",
        description="Servers that stand in for OpenAI, Google and Slack: real HTTP, scripted answers, every call kept.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main_parser.add_subparsers(dest="standin", required=True, metavar="{openai,google,slack}")
    openai = commands.add_parser("openai", parents=[shared], help="chat completions, streamed word by word; embeddings")
    openai.add_argument("--reply", metavar="TEXT", help="what it says (default: a sentence that cites passage 1)")
    openai.add_argument("--delay-ms", type=float, default=0, metavar="MS", help="wait before each word (default: 0)")
    commands.add_parser("google", parents=[shared], help=f"certificates; POST {SIGN_IN} gives an ID token")
    commands.add_parser("slack", parents=[shared], help="an incoming webhook")
    return main_parser


def chosen(options: argparse.Namespace) -> AbstractContextManager[Standin]:
    """The stand-in that the command line asks for."""
    if options.standin == "google":
        return run_google(port=options.port, log=options.log)
    if options.standin == "slack":
        return run_slack(port=options.port, log=options.log)
    delay = options.delay_ms / 1000

    def default(request: Mapping[str, Any]) -> ChatReply:
        return ChatReply(text=options.reply or cite_first_passage(request), delay=delay)

    return run_openai(port=options.port, log=options.log, default=default)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    options = parser().parse_args(arguments)
    endings = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)  # inherited by the server's thread, so sigwait gets them
    try:
        with chosen(options) as standin:
            address = standin.url + CLIENT_PATHS[options.standin]
            print(f"{options.standin} stand-in: {address} (calls: {standin.url}/calls)", flush=True)
            signal.sigwait(endings)
    except OSError as error:
        sys.exit(f"port {options.port}: {error.strerror}")


if __name__ == "__main__":
    main()
