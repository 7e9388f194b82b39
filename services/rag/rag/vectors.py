"""Vectors shipped beside the sample data, so that a first start need not compute them for minutes.

Command line: `python -m rag.vectors data/wesnoth …` makes or completes each folder's vector file with the local model.
"""

import asyncio
import glob
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rag.embedding import HalfVector, Vector, passage_text, text_digest
from rag.local_embedding import local_embedder

logger = logging.getLogger(__name__)

LONGEST_CHUNK = 1200
BATCH = 100


def load_vectors(pattern: str | None, model: str) -> dict[bytes, HalfVector]:
    """Vectors by text digest, from all files that match `pattern` and were made with `model`."""
    vectors: dict[bytes, HalfVector] = {}
    for path in sorted(glob.glob(pattern)) if pattern else ():  # noqa: PTH207 - the pattern is an absolute path
        with np.load(path) as file:
            if str(file["model"]) == model:
                vectors |= zip(map(bytes, file["sha256"]), file["vector"], strict=True)
    return vectors


def write_vectors(path: Path, model: str, vectors: Mapping[bytes, HalfVector]) -> None:
    """One vector file, its rows in the order of their digests, so that equal content makes equal files."""
    digests = sorted(vectors)
    np.savez_compressed(
        path,
        model=np.array(model),
        sha256=np.array([list(digest) for digest in digests], dtype=np.uint8),
        vector=np.array([vectors[digest] for digest in digests], dtype=np.float16),
    )


def chunk_texts(documents: Path, locale: str | None = None) -> list[str]:
    """The text to embed for every chunk of a `documents.jsonl` (in one locale), cut as the worker cuts it."""
    from semantic_text_splitter import TextSplitter  # a tool's dependency: no service cuts text here

    splitter = TextSplitter((LONGEST_CHUNK // 2, LONGEST_CHUNK), overlap=100)
    texts: list[str] = []
    for line in documents.read_text().splitlines():
        row = json.loads(line)
        if locale not in (None, row["locale"]):
            continue
        chunks = [row["text"]] if len(row["text"]) <= LONGEST_CHUNK else splitter.chunks(row["text"])
        texts += [passage_text(row["title"], chunk) for chunk in chunks]
    return texts


async def make_vectors(folder: Path, threads: int) -> None:
    """Write `folder`'s vector file; vectors it has already are kept, those of texts that are gone dropped."""
    async with local_embedder(threads) as embedder:
        path = folder / f"vectors-{embedder.name}.npz"
        known = load_vectors(str(path), embedder.name)
        texts = {text_digest(text): text for text in chunk_texts(folder / "documents.jsonl")}
        vectors = {digest: known[digest] for digest in texts.keys() & known.keys()}
        missing = [digest for digest in texts if digest not in known]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            computed: list[Vector] = await embedder.embed_passages([texts[digest] for digest in batch])
            vectors |= zip(batch, (vector.astype(np.float16) for vector in computed), strict=True)
            logger.info("%s: %d of %d vectors", folder.name, len(vectors), len(texts))
        write_vectors(path, embedder.name, vectors)


def _main(folders: list[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for folder in folders:
        asyncio.run(make_vectors(Path(folder), threads=2))


if __name__ == "__main__":
    _main(sys.argv[1:])
