"""Tests of what the terminal and the log file show."""

import io
import os
import pty
import re
from contextlib import closing
from pathlib import Path

import pytest

from devstack import console
from devstack.console import Console


def test_lines_are_prefixed_and_plain_outside_a_terminal(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with closing(Console(tmp_path / "logs" / "dugout.log", terminal)) as log:
        log.line("coach", "an answer")
    assert re.fullmatch(r"\d\d:\d\d:\d\d coach         \| an answer\n", terminal.getvalue())
    assert re.fullmatch(r"\d{4}-.* coach         \| an answer\n", (tmp_path / "logs" / "dugout.log").read_text())


@pytest.mark.parametrize("coloured", [True, False])
def test_only_a_terminal_that_wants_colour_gets_it(monkeypatch: pytest.MonkeyPatch, *, coloured: bool) -> None:
    if coloured:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        Console(terminal=terminal).say("hello")
        shown = os.read(ours, 1000).decode()
    os.close(ours)
    assert "hello" in shown
    assert ("\033[" in shown) is coloured


def test_log_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_BYTES", 10_000)
    with closing(Console(tmp_path / "logs" / "dugout.log", io.StringIO())) as log:
        for _ in range(1000):
            log.line("coach", "x" * 100)
    assert sum(file.stat().st_size for file in (tmp_path / "logs").iterdir()) <= 20_000


def test_closed_terminal_does_not_stop_the_log_file(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    with closing(Console(tmp_path / "logs" / "dugout.log", Gone())) as log:
        log.say("one")
        log.say("two")
    assert "two" in (tmp_path / "logs" / "dugout.log").read_text()
