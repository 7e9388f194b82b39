"""Tests of the commands that talk to a running system, against a small gateway on a real socket."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Form, Header, HTTPException, UploadFile
from fastapi.responses import JSONResponse

from devstack.ask import Question, ask, describe
from devstack.games import available_games, load_game, read_game
from devstack.gateway import GatewayError, signed_in
from devstack.keys import rotate_keys
from devstack.launch import free_port
from devstack.settings import SettingsError
from standins.server import serve

CARD = {
    "slug": "tetris",
    "titles": {"ko": "테트리스", "en": "Tetris"},
    "patch": "1.0",
    "sample_questions": {"ko": ["막대는 몇 칸?"], "en": ["How long is the bar?"]},
}
ANSWER = {
    "answer": "Four cells. [1]\n" + "It is long. " * 20,
    "citations": [{"marker": 1, "title": "The bar", "source": "manual", "url": "https://tetris.test/bar"}],
    "cache": "semantic",
    "similarity": 0.953,
    "covered": True,
    "degraded": True,
    "game": "tetris",
    "locale": "en",
    "patch": "1.0",
    "model": "extractive",
    "latency_ms": 12,
}
NOW = datetime.now(UTC).isoformat()


class Gateway:
    """What the commands need of the public API; tokens last for `token_uses` calls."""

    def __init__(self) -> None:
        self.games: dict[str, Any] = {}
        self.uploads: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.logins: list[dict[str, Any]] = []
        self.token_uses = 100
        self.job_states = ["queued", "running", "succeeded"]
        self.key_looks = 0
        self.app = FastAPI()
        self.app.post("/auth/dev/login")(self.login)
        self.app.put("/admin/games/{slug}")(self.put_game)
        self.app.post("/admin/documents", status_code=202)(self.upload)
        self.app.get("/admin/jobs/{job_id}")(self.job)
        self.app.post("/api/coach/ask")(self.ask)
        self.app.post("/admin/keys/rotate", status_code=202)(self.rotate)
        self.app.get("/admin/keys")(self.list_keys)
        self.app.get("/readyz")(lambda: {"status": "ready"})

    async def login(self, body: dict[str, Any]) -> dict[str, str]:
        self.logins.append(body)
        self._left = self.token_uses
        return {"access_token": f"token-{len(self.logins)}"}

    def check(self, authorization: str) -> None:
        self._left -= 1
        if self._left < 0 or authorization != f"Bearer token-{len(self.logins)}":
            raise HTTPException(401)

    async def put_game(
        self, slug: str, body: dict[str, Any], authorization: Annotated[str, Header()]
    ) -> dict[str, Any]:
        self.check(authorization)
        self.games[slug] = body
        return body

    async def upload(
        self, file: UploadFile, game: Annotated[str, Form()], authorization: Annotated[str, Header()]
    ) -> dict[str, Any]:
        self.check(authorization)
        self.uploads.append({"game": game, "name": file.filename, "body": await file.read()})
        return {"id": "job-1", "state": "queued"}

    async def job(self, job_id: str, authorization: Annotated[str, Header()]) -> dict[str, Any]:
        self.check(authorization)
        state = self.job_states.pop(0)
        error = {"code": "bad_row", "detail": "line 3"} if state == "failed" else None
        return {"id": job_id, "state": state, "done": 2, "total": 2, "error": error}

    async def rotate(self, authorization: Annotated[str, Header()]) -> dict[str, Any]:
        self.check(authorization)
        return _keys("active", "next")

    async def list_keys(self, authorization: Annotated[str, Header()]) -> dict[str, Any]:
        self.check(authorization)
        self.key_looks += 1
        return _keys("active", "next") if self.key_looks < 3 else _keys("retired", "active")

    async def ask(self, body: dict[str, Any], authorization: Annotated[str, Header()]) -> Any:
        self.check(authorization)
        self.asked.append(body)
        if body["game"] not in self.games:
            problem = {"code": "game_not_found", "title": "Not found", "detail": "no such game"}
            return JSONResponse(problem, 404, media_type="application/problem+json")
        return ANSWER


def _keys(old: str, new: str) -> dict[str, Any]:
    states = {"old": old, "new": new}
    return {"keys": [{"kid": kid, "state": state, "signs_from": NOW} for kid, state in states.items()]}


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def url(gateway: Gateway) -> Iterator[str]:
    with serve(gateway.app) as server:
        yield server.url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "tetris"
    folder.mkdir(parents=True)
    (folder / "game.json").write_text(json.dumps(CARD))
    (folder / "documents.jsonl").write_text('{"doc_id": "1"}\n{"doc_id": "2"}\n')
    return tmp_path / "data"


async def run(url: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """The command line in a process of its own; exit code and output."""
    command = [sys.executable, "-m", "devstack", *arguments]
    result = await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, "DUGOUT_URL": url, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


async def test_game_is_published_then_its_documents_then_the_job_is_followed(
    gateway: Gateway, url: str, data: Path
) -> None:
    said: list[str] = []
    async with signed_in(url, "admin") as operator:
        await load_game(operator, read_game(data, "tetris"), said.append)
    assert said == ["loading tetris", "loaded tetris: 2 documents"]
    assert gateway.games == {"tetris": CARD}
    expected = (data / "tetris" / "documents.jsonl").read_bytes()
    assert gateway.uploads == [{"game": "tetris", "name": "documents.jsonl", "body": expected}]
    assert gateway.job_states == []
    assert gateway.logins == [{"email": "admin@example.com", "role": "admin"}]


async def test_failed_job_says_why(gateway: Gateway, url: str, data: Path) -> None:
    gateway.job_states = ["running", "failed"]
    async with signed_in(url, "admin") as operator:
        with pytest.raises(GatewayError, match=r"loading tetris failed \(bad_row: line 3\)"):
            await load_game(operator, read_game(data, "tetris"), print)


async def test_token_that_ran_out_is_renewed(gateway: Gateway, url: str, data: Path) -> None:
    gateway.token_uses = 2
    gateway.job_states = ["running"] * 3 + ["succeeded"]
    async with signed_in(url, "admin") as operator:
        await load_game(operator, read_game(data, "tetris"), print)
    assert len(gateway.logins) == 3


def test_changed_documents_change_the_digest(data: Path) -> None:
    before = read_game(data, "tetris").digest()
    assert read_game(data, "tetris").digest() == before
    (data / "tetris" / "documents.jsonl").write_text("{}\n")
    assert read_game(data, "tetris").digest() != before


def test_unknown_sample_game_names_the_known_ones(data: Path) -> None:
    assert available_games(data) == ["tetris"]
    with pytest.raises(SettingsError, match=r"no sample game 'pong' .*; there are: tetris"):
        read_game(data, "pong")


async def test_answer_is_shown_with_citations_cache_and_latency(gateway: Gateway, url: str, data: Path) -> None:
    gateway.games["tetris"] = CARD
    korean, english = read_game(data, "tetris").questions()
    async with signed_in(url, "player") as player:
        shown = describe(english, await ask(player, english))
    assert gateway.asked == [{"game": "tetris", "question": "How long is the bar?", "locale": "en"}]
    assert korean == Question("tetris", "막대는 몇 칸?", "ko")
    assert "[tetris · en] How long is the bar?" in shown
    assert "  [1] The bar (manual) · https://tetris.test/bar" in shown
    assert "cache: semantic, similarity 0.953 · 12 ms · model: extractive · patch 1.0 · the model failed" in shown
    assert max(len(line) for line in shown.splitlines()) <= 104


async def test_command_ask_prints_the_answer(gateway: Gateway, url: str) -> None:
    gateway.games["tetris"] = CARD
    code, output = await run(url, "ask", "--game", "tetris", "How long?")
    assert code == 0
    assert "Four cells. [1]" in output
    assert gateway.asked == [{"game": "tetris", "question": "How long?", "locale": None}]


async def test_command_ask_without_a_question_says_how_to_ask(gateway: Gateway, url: str) -> None:
    code, output = await run(url, "ask", "--game", "tetris", " ")
    assert (code, output) == (2, 'dugout: ask what? make ask GAME=tetris Q="…"\n')
    assert gateway.asked == []


async def test_command_ask_tells_a_problem_in_one_line(url: str) -> None:
    code, output = await run(url, "ask", "--game", "pong", "How long?")
    assert code == 1
    assert output == f"dugout: POST {url}/api/coach/ask answered 404 (game_not_found: no such game)\n"


async def test_command_rotate_keys_waits_until_the_new_key_signs(gateway: Gateway, url: str) -> None:
    code, output = await run(url, "rotate-keys")
    assert code == 0
    lines = output.splitlines()
    assert lines[:3] == ["old key: old", "new key: new, published", "signs in 0 s"]
    assert lines[-1].startswith("the new key signs; tokens of the old one hold until they expire")
    assert gateway.key_looks == 3
    assert gateway.logins == [{"email": "admin@example.com", "role": "admin"}]


async def test_a_rotation_that_never_ends_is_given_up(
    gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devstack.keys.PATIENCE_SECONDS", 0)
    gateway.key_looks = -1_000_000
    async with signed_in(url, "admin") as operator:
        with pytest.raises(GatewayError, match="the new key does not sign"):
            await rotate_keys(operator, print)


async def test_commands_say_when_nothing_runs(tmp_path: Path) -> None:
    for arguments in (("ask", "--game", "tetris", "?"), ("games",), ("migrate",), ("rotate-keys",)):
        code, output = await run("", *arguments, DUGOUT_STATE=str(tmp_path))
        assert (code, output) == (2, "dugout: Dugout is not running here: start it with make up, or set DUGOUT_URL\n")
    assert await run("", "down", DUGOUT_STATE=str(tmp_path)) == (0, "Dugout is not running here\n")


async def test_system_that_was_killed_is_said_not_to_answer() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, output = await run(url, "ask", "--game", "tetris", "How long?")
    assert (code, output) == (1, f"dugout: no answer from {url}/auth/dev/login (ConnectError); is it up?\n")


async def test_command_wait_ends_with_the_gateways_answer_or_its_patience(url: str, tmp_path: Path) -> None:
    assert await run(url, "wait") == (0, "")
    code, output = await run("", "wait", "--seconds", "0", DUGOUT_STATE=str(tmp_path))
    assert code == 1
    assert output.startswith("dugout: gave up after 0 s: Dugout is not running here")


async def test_help_names_every_command_and_variable() -> None:
    code, output = await run("", "--help")
    assert code == 0
    for word in (
        "up",
        "demo",
        "ask",
        "games",
        "wait",
        "down",
        "clean",
        "DUGOUT_PORT",
        "DUGOUT_STATE",
        "OPENAI_API_KEY",
    ):
        assert word in output
