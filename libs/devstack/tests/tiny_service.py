"""One service of the tiny system: `tiny_service.py NAME [DESCRIPTOR]`; `TINY` says what is wrong with the system."""

import os
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

TINY = os.environ["TINY"]


class Ready(BaseHTTPRequestHandler):
    """Answers `/readyz`."""

    def do_GET(self) -> None:
        self.send_response(503 if TINY == "unready" else 200)
        self.end_headers()
        self.wfile.write(b'{"checks": {"postgres": {"ok": false}}}')

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def go(*_: object) -> None:
    """Ends as asked; a database that has gone before would raise here."""
    socket.create_connection(("127.0.0.1", int(os.environ["TINY_DATABASE"]))).close()
    print(f"{name} goes", flush=True)
    sys.exit()


name, *descriptor = sys.argv[1:]
signal.signal(signal.SIGTERM, go)
if TINY == "stubborn" and name == "coach":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"])  # in its session, as Celery's pool is
print(f"{name} runs", flush=True)
if TINY == "failing" and name == "coach":
    sys.exit(3)
if descriptor:
    server = HTTPServer(("", 0), Ready, bind_and_activate=False)
    server.socket = socket.socket(fileno=int(descriptor[0]))
    server.serve_forever()
time.sleep(600)
