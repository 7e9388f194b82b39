"""Text to vectors: what an embedding provider must do, and the lookups that spare it work."""

import asyncio
import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The width of the column `chunk.embedding`; every provider is asked for this many dimensions.
DIMENSIONS = 384
REMEMBERED_QUERIES = 10_000  # 1.5 KB each

Vector = NDArray[np.float32]
HalfVector = NDArray[np.float16]


class Embedder(Protocol):
    """A model that places questions and passages in one space; vectors have unit length."""

    @property
    def name(self) -> str:
        """The exact model: vectors and calibrations of two names never mix."""

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question that a player waits for."""

    async def embed_passages(self, texts: Sequence[str]) -> list[Vector]:
        """The vectors of texts to index, in their order; nobody waits, so questions go first."""


class Embeddings:
    """A provider behind two lookups: vectors shipped beside the data, and questions asked before."""

    def __init__(self, provider: Embedder, shipped: Mapping[bytes, HalfVector]) -> None:
        self._provider = provider
        self._shipped = shipped
        # By digest: nobody who asks to be erased can be found in the memory of a process.
        self._queries: OrderedDict[bytes, asyncio.Future[Vector]] = OrderedDict()

    @property
    def name(self) -> str:
        """The provider's model."""
        return self._provider.name

    async def embed_query(self, text: str) -> Vector:
        """The question's vector; equal questions asked together are computed once."""
        text = clean(text)
        name = text_digest(text)
        known = self._queries.get(name)
        if known is None:
            known = self._queries[name] = asyncio.ensure_future(self._provider.embed_query(text))
            known.add_done_callback(lambda done: self._forget_failure(name, done))
            if len(self._queries) > REMEMBERED_QUERIES:
                self._queries.popitem(last=False)
        self._queries.move_to_end(name)
        # Shielded: one player leaving must not take the vector from the others.
        return await asyncio.shield(known)

    async def embed_passages(self, texts: Sequence[str]) -> list[Vector]:
        """Each text's vector, from the shipped files where they have it."""
        shipped = [self._shipped.get(text_digest(text)) for text in texts]
        missing = [text for text, vector in zip(texts, shipped, strict=True) if vector is None]
        computed = iter(await self._provider.embed_passages(missing) if missing else ())
        return [next(computed) if vector is None else unit(vector) for vector in shipped]

    def _forget_failure(self, name: bytes, done: asyncio.Future[Vector]) -> None:
        if (done.cancelled() or done.exception()) and self._queries.get(name) is done:
            del self._queries[name]


def clean(text: str) -> str:
    """Text as models and Postgres take it: composed (a Korean text in NFD is far from itself), no NUL, no half pair."""
    return unicodedata.normalize("NFC", text.replace("\0", "").encode(errors="ignore").decode())


def passage_text(title: str, text: str) -> str:
    """What is embedded for a chunk: its document's title stands above it, for a chunk rarely names its subject."""
    return clean(f"{title}\n{text}")


def text_digest(text: str) -> bytes:
    """The name of an embedded text among the shipped vectors."""
    return hashlib.sha256(text.encode()).digest()


def unit(vector: ArrayLike) -> Vector:
    """The vector in single precision, scaled to length 1."""
    single = np.asarray(vector, dtype=np.float32)
    scaled: Vector = single / np.float32(max(float(np.linalg.norm(single)), 1e-12))
    return scaled
