"""Runs a command and stops it when our parent has gone: what PR_SET_PDEATHSIG does on Linux, for other systems."""

import os
import signal
import subprocess
import sys
from types import FrameType

POLL_SECONDS = 0.5


def tether(parent: int, signum: int, command: list[str]) -> int:
    """Waits for the command to end, handing signals on; returns its exit code."""
    child = subprocess.Popen(command, close_fds=False)  # noqa: S603 - what the launcher would have run, with what it inherits

    def hand_on(received: int, _frame: FrameType | None) -> None:
        child.send_signal(received)

    for handled in (signal.SIGINT, signal.SIGTERM):
        signal.signal(handled, hand_on)
    while True:
        try:
            return child.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                child.send_signal(signum)
                return child.wait()


if __name__ == "__main__":
    raise SystemExit(tether(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
