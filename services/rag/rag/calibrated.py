"""What similarities of one embedding model mean: measured per model, kept in `calibration/<model>.json`.

A cosine says nothing by itself: e5 puts unrelated questions at 0.82, opposites at 0.98. With its language's mean
subtracted (“centred”) the scores spread and cuts can be read off. `bench/calibrate.py` measures and writes the file.
"""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from rag.embedding import Vector, unit
from rag.shapes import Locale

FOLDER = Path(__file__).parent / "calibration"


_Mean = Annotated[Vector, BeforeValidator(lambda values: np.asarray(values, dtype=np.float32))]


class LocaleMeans(BaseModel):
    """The mean vectors of one language's questions and passages."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    question: _Mean
    passage: _Mean


class Calibration(BaseModel):
    """Cuts and means of one embedding model."""

    model_config = ConfigDict(frozen=True)

    model: str
    raw_cut: float  # a cached question must be nearer than this …
    centred_cut: float  # … and at least this near once centred
    floor: float  # the best passage's relevance below which the sources do not cover a question
    confident: float  # … below which passages in the other language are worth a place
    means: dict[Locale, LocaleMeans]

    @classmethod
    def load(cls, model: str, folder: Path = FOLDER) -> Self | None:
        """The calibration of exactly this model, if there is one."""
        path = folder / f"{model}.json"
        return cls.model_validate_json(path.read_bytes()) if path.is_file() else None

    def centred(self, one: Vector, other: Vector, locale: Locale) -> float:
        """Centred cosine of two questions in one language."""
        mean = self.means[locale].question
        return float(unit(one - mean) @ unit(other - mean))

    def relevance(self, question: Vector, question_locale: Locale, passage: Vector, passage_locale: Locale) -> float:
        """Centred cosine of a question and a passage, comparable across languages."""
        centred_question = unit(question - self.means[question_locale].question)
        return float(centred_question @ unit(passage - self.means[passage_locale].passage))
