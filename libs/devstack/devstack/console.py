"""What the terminal and the log file show: every process's lines behind its name, and our own."""

import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

LOG_BYTES = 10_000_000
OURS = "dugout"
COLOURS = {
    "gateway": 36,
    "auth": 33,
    "coach": 32,
    "rag": 35,
    "admin": 34,
    "worker": 31,
    "worker-celery": 91,
    OURS: 1,
}
WIDTH = max(len(name) for name in COLOURS)


class Console:
    """Writes lines to the terminal (coloured if it is one) and to a log file of bounded size."""

    def __init__(self, log: Path | None = None, terminal: TextIO | None = None) -> None:
        terminal = terminal or sys.stdout
        self._terminal: TextIO | None = terminal
        self._coloured = terminal.isatty() and "NO_COLOR" not in os.environ
        self._quiet = False
        self._file: logging.Handler = logging.NullHandler()
        if log is not None:
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = logging.handlers.RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
            self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def line(self, name: str, text: str) -> None:
        """A line of one process."""
        self._file.handle(logging.makeLogRecord({"msg": f"{name:<{WIDTH}} | {text}"}))
        if self._quiet and name != OURS:
            return
        prefix = f"{time.strftime('%H:%M:%S')} {name:<{WIDTH}} |"
        if self._coloured:
            prefix = f"\033[{COLOURS.get(name, 2)}m{prefix}\033[0m"
        self._write(f"{prefix} {text}")

    def say(self, text: str) -> None:
        """A line of our own."""
        self.line(OURS, text)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Meanwhile the processes' lines go to the log file only: a progress bar among them cannot be read."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def show(self, text: str) -> None:
        """Text for the reader, without prefixes."""
        self._write(text)

    def close(self) -> None:
        """Closes the log file."""
        self._file.close()

    def _write(self, text: str) -> None:
        if self._terminal is None:
            return
        try:
            tqdm.write(text, file=self._terminal)  # keeps a progress bar in its place
            self._terminal.flush()
        except OSError:  # the terminal was closed, or the reader of our pipe has gone; the log file goes on
            if self._terminal is sys.stdout:  # Python flushes it once more at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._terminal = None
