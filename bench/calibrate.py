"""Measure what the local model's similarities mean on game questions, and write its calibration file.

Usage: python bench/calibrate.py      (reads bench/questions.jsonl and data/, writes services/rag/rag/calibration/)

Means: of each language's questions and passages. `centred_cut`: nine in ten near-misses, questions that look
alike but have different answers, lie below it before any word is compared.
`floor`: below it lie 3 % of the questions asked of their own game, and most of those asked of another game.
`confident`: the median best relevance of questions asked of their own game.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rag.calibrated import FOLDER, Calibration, LocaleMeans
from rag.embedding import Vector, clean, text_digest, unit
from rag.local_embedding import local_embedder
from rag.vectors import chunk_texts, load_vectors

logger = logging.getLogger("calibrate")

ROOT = Path(__file__).parent.parent
GAMES = ("wesnoth", "chess", "dcss", "spd")
RAW_CUT = 0.9  # the product's rule; the other cuts are added to it


class Asked(NamedTuple):
    """A sample question; a record's paraphrases ask what its question asks, its near-misses something else."""

    record: str
    game: str
    locale: str
    vector: Vector
    kind: str


Passages = dict[tuple[str, str], Vector]  # by game and locale, one row each


def load_passages(model: str) -> Passages:
    """All shipped vectors, by game and locale."""
    vectors = load_vectors(str(ROOT / f"data/*/vectors-{model}.npz"), model)
    passages: Passages = {}
    for game, locale in itertools.product(GAMES, ("ko", "en")):
        texts = chunk_texts(ROOT / "data" / game / "documents.jsonl", locale)
        passages[game, locale] = np.array([unit(vectors[text_digest(text)]) for text in texts])
    return passages


async def embed_questions(embed: Callable[[str], Any]) -> list[Asked]:
    """Every question of the sample, its paraphrases and its near-misses."""
    asked: list[Asked] = []
    for line in (ROOT / "bench/questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        row["question"] = [row["question"]]
        for kind in ("question", "paraphrases", "near_misses"):
            vectors = [await embed(clean(text)) for text in row[kind]]
            asked += [Asked(row["id"], row["game"], row["locale"], vector, kind) for vector in vectors]
    return asked


def best_relevances(
    calibration: Calibration, questions: list[Asked], passages: Passages
) -> Iterator[tuple[bool, float]]:
    """The relevance of each question's best passage in its own game (true) and in every other (false)."""
    for question, game in itertools.product(questions, GAMES):
        means = calibration.means[question.locale]  # type: ignore[index]  # the sample has no other locales
        centred = passages[game, question.locale] - means.passage
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        yield game == question.game, float((centred @ unit(question.vector - means.question)).max())


def calibrate(model: str, questions: list[Asked], passages: Passages) -> Calibration:
    """Means first, then the cuts that are measured with them."""
    means = {
        locale: LocaleMeans(
            question=np.mean([asked.vector for asked in questions if asked.locale == locale], axis=0),
            passage=np.concatenate([rows for (_, of), rows in passages.items() if of == locale]).mean(axis=0),
        )
        for locale in ("ko", "en")
    }
    draft = Calibration(model=model, raw_cut=RAW_CUT, centred_cut=1, floor=0, confident=0, means=means)
    near_misses = [
        draft.centred(one.vector, other.vector, one.locale)  # type: ignore[arg-type]
        for one, other in itertools.product(questions, questions)
        if one.record == other.record and (one.kind, other.kind) == ("near_misses", "question")
    ]
    answerable = [asked for asked in questions if asked.kind != "near_misses"]
    relevances = list(best_relevances(draft, answerable, passages))
    own = [value for is_own, value in relevances if is_own]
    foreign = [value for is_own, value in relevances if not is_own]
    floor, confident = (round(float(np.quantile(own, share)), 3) for share in (0.03, 0.5))
    cut = round(float(np.quantile(near_misses, 0.9)), 3)
    refused = np.mean(np.array(foreign) < floor)
    logger.info(
        "%d near-misses, the nearest at a centred cosine of %.3f: cut %.3f", len(near_misses), max(near_misses), cut
    )
    logger.info("floor %.3f refuses %.0f %% of %d questions to another game", floor, 100 * refused, len(foreign))
    return draft.model_copy(update={"centred_cut": cut, "floor": floor, "confident": confident})


async def main() -> None:
    """Calibrate the model in the wheel."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    async with local_embedder(threads=2) as embedder:
        questions = await embed_questions(embedder.embed_query)
        calibration = calibrate(embedder.name, questions, load_passages(embedder.name))
    written = calibration.model_dump()
    for means in written["means"].values():
        means |= {kind: [round(float(value), 5) for value in mean] for kind, mean in means.items()}
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{calibration.model}.json").write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
