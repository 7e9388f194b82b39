"""What the stories of this service work with; made once, in the lifespan."""

from dataclasses import dataclass

from common.db import Sessions
from rag.answer_cache import AnswerCache
from rag.calibrated import Calibration
from rag.embedding import Embeddings
from rag.freshness import Freshness


@dataclass(frozen=True)
class Resources:
    """`calibration` is absent for a model that was never measured; the semantic tier is off then."""

    sessions: Sessions
    embeddings: Embeddings
    calibration: Calibration | None
    cache: AnswerCache
    freshness: Freshness
