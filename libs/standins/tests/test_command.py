"""The stand-ins as a person starts them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

COMMAND = [sys.executable, "-m", "standins"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_openai_answers_by_hand_and_ends_quietly(tmp_path: Path, ending: signal.Signals) -> None:
    log = tmp_path / "calls.jsonl"
    command = [*COMMAND, "openai", "--reply", "Use cavalry [1].", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().split()[2]
        request = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
        reply = httpx.post(f"{base_url}/chat/completions", json=request)
        process.send_signal(ending)
        _, errors = process.communicate(timeout=10)
    assert reply.json()["choices"][0]["message"]["content"] == "Use cavalry [1]."
    assert [json.loads(line)["body"] for line in log.read_text(encoding="utf-8").splitlines()] == [request]
    assert (process.returncode, errors) == (0, "")


def test_help_shows_how_to_point_the_system_at_it() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "OPENAI_BASE_URL=http://127.0.0.1:9999/v1" in done.stdout
    assert "google" in done.stdout
    assert "slack" in done.stdout
