"""The scope of a cached answer: all that must be equal for it to serve another player."""

import hashlib
from collections.abc import Iterable

from rag.shapes import Retrieval


def digest(fields: Iterable[str]) -> str:
    """A hash that no two lists of fields share: each field follows its length, so “a|b”, “c” is not “a”, “b|c”."""
    hashed = hashlib.sha256()
    for field in fields:
        encoded = field.encode()
        hashed.update(b"%d:%b" % (len(encoded), encoded))
    return hashed.hexdigest()


def scope_of(wanted: Retrieval, *, generation: int, embedding_model: str) -> str:
    """The scope of a question, for a generation of its game's documents."""
    context = [part for item in sorted(wanted.context.items()) for part in item]
    return digest(
        [
            wanted.game,
            wanted.locale,
            wanted.patch,
            wanted.prompt_version,
            wanted.model,
            str(generation),
            embedding_model,
            str(wanted.cross_lingual),
            str(wanted.top_k),
            *context,
        ]
    )
