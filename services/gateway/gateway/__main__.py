"""`python -m gateway`: the gateway, served. Where it listens comes from options, or from uvicorn's variables."""

import argparse
import os
import socket

from gateway import memory
from gateway.app import build
from gateway.readiness import Drain
from gateway.server import Server, allow_open_files
from gateway.settings import Settings


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The gateway, told by DUGOUT_* variables.")
    parser.add_argument("--host", default=os.environ.get("UVICORN_HOST", "127.0.0.1"), help="default: %(default)s")
    parser.add_argument("--port", type=int, default=os.environ.get("UVICORN_PORT", "8000"), help="default: %(default)s")
    parser.add_argument("--fd", type=int, help="an inherited listening socket, instead of host and port")
    options = parser.parse_args()
    settings, drain = Settings(), Drain()
    app = build(settings, drain)
    allow_open_files(settings)
    memory.settle()
    # uvicorn's own way with a descriptor keeps it open to the end: the listener would never close.
    inherited = None if options.fd is None else [socket.socket(fileno=options.fd)]
    Server(app, settings, drain, host=options.host, port=options.port).run(inherited)


if __name__ == "__main__":
    main()
