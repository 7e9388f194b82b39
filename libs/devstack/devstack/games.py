"""Loads sample games from `data/` into a running system, through the public API."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from devstack.ask import Question
from devstack.gateway import GatewayError, read
from devstack.settings import SettingsError

POLL_SECONDS = 0.3
# In these the two questions of a start are asked.
LOCALES = ("ko", "en")


@dataclass(frozen=True)
class Game:
    """A folder of `data/`."""

    folder: Path
    card: dict[str, Any]

    @property
    def slug(self) -> str:
        slug: str = self.card["slug"]
        return slug

    @property
    def documents(self) -> Path:
        return self.folder / "documents.jsonl"

    def digest(self) -> str:
        """Changes whenever the game has to be loaded again."""
        content = json.dumps(self.card).encode() + self.documents.read_bytes()
        return hashlib.sha256(content).hexdigest()

    def questions(self) -> list[Question]:
        """One question in each language."""
        asked = self.card["sample_questions"]
        return [Question(self.slug, asked[locale][0], locale) for locale in LOCALES]


def available_games(data: Path) -> list[str]:
    """Names of the sample games."""
    return sorted(card.parent.name for card in data.glob("*/game.json"))


def read_game(data: Path, name: str) -> Game:
    """The game in the folder `name`."""
    try:
        return Game(data / name, json.loads((data / name / "game.json").read_text("utf-8")))
    except FileNotFoundError:
        known = ", ".join(available_games(data))
        raise SettingsError(f"there is no sample game {name!r} in {data}; there are: {known}") from None


async def load_game(operator: httpx.AsyncClient, game: Game, say: Callable[[str], None]) -> None:
    """Publishes the game and its documents and follows the job, with a progress bar; says how it went."""
    read(await operator.put(f"/admin/games/{game.slug}", json=game.card))
    upload = await operator.post(
        "/admin/documents",
        data={"game": game.slug, "patch": game.card["patch"], "title": game.card["titles"]["en"]},
        files={"file": (game.documents.name, game.documents.read_bytes(), "application/jsonl")},
    )
    job = read(upload)
    say(f"loading {game.slug}")
    with tqdm(desc=f"loading {game.slug}", unit=" documents", leave=False, disable=None) as bar:  # none in a pipe
        while job["state"] not in ("succeeded", "failed"):
            await asyncio.sleep(POLL_SECONDS)
            job = read(await operator.get(f"/admin/jobs/{job['id']}"))
            bar.total = job["total"]
            bar.update(job["done"] - bar.n)
    if job["state"] == "failed":
        raise GatewayError(f"loading {game.slug} failed ({job['error']['code']}: {job['error']['detail']})")
    say(f"loaded {game.slug}: {job['done']} documents")
