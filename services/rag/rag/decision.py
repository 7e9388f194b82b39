"""Whether a cached answer may be served for a new question: the semantic cache's one decision.

Cosines only propose. No cosine separates “Ahri against Zed” from “Zed against Ahri”, so what decides is the content of
both questions, word by word. When in doubt it refuses: a miss costs cents, a wrong answer costs trust.
"""

from typing import NamedTuple

from rag.calibrated import Calibration
from rag.content import content_words
from rag.embedding import Vector
from rag.shapes import Locale


class Asked(NamedTuple):
    """A question and its vector."""

    text: str
    vector: Vector


class Decision(NamedTuple):
    """Serve or not, on which figures, and why not."""

    served: bool
    similarity: float
    centred: float
    reason: str


def decide(asked: Asked, cached: Asked, locale: Locale, calibration: Calibration) -> Decision:
    """Whether the answer to `cached` answers `asked`; both come from one scope."""
    similarity = float(asked.vector @ cached.vector)
    centred = calibration.centred(asked.vector, cached.vector, locale)
    if similarity <= calibration.raw_cut:
        reason = "not similar"
    elif centred < calibration.centred_cut:
        reason = "not similar once centred"
    else:
        reason = _difference(content_words(asked.text), content_words(cached.text))
    return Decision(not reason, similarity, centred, reason)


def _difference(asked: list[str], cached: list[str]) -> str:
    """Whether two contents part, or nothing; it is logged, so it tells no player's words."""
    if not asked or not cached:
        return "no content"
    return "" if asked == cached else "other content"
