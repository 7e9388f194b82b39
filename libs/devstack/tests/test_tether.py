"""Tests of the tether: what stands in for Linux's parent-death signal elsewhere works everywhere."""

import signal
import subprocess
import sys

import pytest

# Starts a tethered child that says when it runs and when it is told to stop, and waits to be killed.
PARENT = """
import os, subprocess, sys
child = [sys.executable, "-uc", {child!r}]
subprocess.Popen([sys.executable, "-m", "devstack.tether", str(os.getpid()), "2", *child]).wait()
"""
CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(print("stopped")))
print("runs")
time.sleep(60)
"""


def test_child_is_stopped_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(child=CHILD)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "runs\n"
    parent.kill()
    assert parent.communicate(timeout=20)[0] == "stopped\n"  # the pipe closes with the last of them


@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(7)", 7), ("pass", 0)])
def test_exit_code_is_that_of_the_child(code: str, expected: int) -> None:
    command = [sys.executable, "-m", "devstack.tether", "1", "15", sys.executable, "-c", code]
    assert subprocess.run(command, check=False).returncode == expected


def test_signals_are_handed_on() -> None:
    command = [sys.executable, "-m", "devstack.tether", "1", "15", sys.executable, "-uc", CHILD]
    tether = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert tether.stdout is not None
    assert tether.stdout.readline() == "runs\n"
    tether.send_signal(signal.SIGINT)
    assert tether.communicate(timeout=20)[0] == "stopped\n"
