"""Remembered answers in the cache Redis: by the exact question for minutes, by its neighbours for weeks.

Keys, all of one scope (see `scope.py`) and all with an expiry that no reading renews:
`rag:answer:<scope>:<question>` an answer and what it was made from; `rag:exact:<scope>:<question>` stands while the
exact tier may serve it; `rag:semantic:<scope>` a vector set of the scope's questions; `rag:flight:<id>` what one
retrieval found, by which its answer is admitted later.
"""

import json
import logging
from typing import Any, NamedTuple, cast
from uuid import UUID

import numpy as np
from prometheus_client import Counter
from pydantic import BaseModel
from redis import RedisError
from redis.asyncio import Redis

from rag.content import normalise
from rag.embedding import Vector, unit
from rag.scope import digest
from rag.shapes import Cited, Locale

logger = logging.getLogger(__name__)

fallbacks = Counter("rag_cache_fallbacks_total", "Requests served without the answer caches", ["operation"])

FLIGHT_SECONDS = 600
NEIGHBOURS = 5  # of expired or edited answers some may be left; the next neighbour is asked then
LARGEST_SCOPE = 50_000  # questions: about 60 MB with their vectors
SCANNED_AT_ONCE = 500

# One step, so that an answer is stored by its own flight only, and once.
_STORE = """
local flight, exact, answer, set = unpack(KEYS)
local expected, exact_seconds, answer_seconds, largest, id, vector = unpack(ARGV, 1, 6)
if redis.call('GET', flight) ~= expected then return 0 end
redis.call('DEL', flight, answer)
redis.call('SET', exact, 1, 'EX', exact_seconds)
redis.call('HSET', answer, unpack(ARGV, 7))
redis.call('EXPIRE', answer, vector ~= '' and answer_seconds or exact_seconds)
if vector ~= '' then
  if redis.call('EXISTS', set) == 1 and redis.call('VCARD', set) >= tonumber(largest) then
    redis.call('VREM', set, redis.call('VRANDMEMBER', set))
  end
  redis.call('VADD', set, 'FP32', vector, id, 'Q8')
  redis.call('EXPIRE', set, answer_seconds)
end
return 1
"""


class Entry(NamedTuple):
    """A remembered answer; `vector` is absent where the semantic tier was off."""

    id: str
    question: str
    vector: Vector | None
    answer: Any
    cited: list[Cited]


class Flight(BaseModel):
    """What a retrieval found, kept until its answer comes."""

    id: UUID
    scope: str
    game: str
    locale: Locale
    generation: int
    question: str  # its digest
    covered: bool
    found: list[Cited]


def question_id(question: str) -> str:
    """The name of a question: equal for spellings that the exact tier takes for one."""
    return digest([normalise(question)])


def note_fallback(operation: str, error: RedisError) -> None:
    """Count and log that a request goes on without the cache."""
    fallbacks.labels(operation).inc()
    logger.warning("answer cache not available", extra={"operation": operation, "reason": type(error).__name__})


class AnswerCache:
    """Both tiers; every method may raise RedisError, and it is the caller who goes on without."""

    def __init__(self, redis: Redis, *, exact_seconds: int, semantic_seconds: int) -> None:
        self._redis = redis
        self._seconds = (exact_seconds, semantic_seconds)
        self._store_script = redis.register_script(_STORE)

    async def exact(self, scope: str, question: str) -> Entry | None:
        """The answer to exactly this question, if it is minutes old."""
        entry_id = question_id(question)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.exists(_exact_key(scope, entry_id))
            pipeline.hgetall(_answer_key(scope, entry_id))
            stands, fields = await pipeline.execute()
        return _entry(entry_id, fields) if stands and fields else None

    async def neighbours(self, scope: str, vector: Vector) -> list[Entry]:
        """Answers to the nearest questions of the scope, nearest first."""
        key = _semantic_key(scope)
        names = cast("list[bytes]", await self._redis.vset().vsim(key, vector.tobytes(), count=NEIGHBOURS))
        ids = [name.decode() for name in names]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for entry_id in ids:
                pipeline.hgetall(_answer_key(scope, entry_id))
            answers = await pipeline.execute() if ids else []
        if gone := [entry_id for entry_id, fields in zip(ids, answers, strict=True) if not fields]:
            await self._remove(scope, *gone)
        return [_entry(entry_id, fields) for entry_id, fields in zip(ids, answers, strict=True) if fields]

    async def forget(self, scope: str, entry_id: str) -> None:
        """Remove an answer that must not be served again."""
        await self._redis.delete(_exact_key(scope, entry_id), _answer_key(scope, entry_id))
        await self._remove(scope, entry_id)

    async def forget_asker(self, asker: str) -> int:
        """Remove every answer made for `asker`, in whatever scope; how many there were.

        By looking through all answers: an index could be evicted before what it points at, and the text would stay.
        """
        forgotten, keys = 0, list[bytes]()
        async for key in self._redis.scan_iter(match=_answer_key("*", "*"), count=SCANNED_AT_ONCE):
            keys.append(key)
            if len(keys) == SCANNED_AT_ONCE:
                forgotten += await self._forget_made_for(asker, keys)
                keys.clear()
        return forgotten + await self._forget_made_for(asker, keys)

    async def open_flight(self, flight: Flight) -> None:
        """Keep what a retrieval found until its answer is offered."""
        await self._redis.set(_flight_key(flight.id), flight.model_dump_json(), ex=FLIGHT_SECONDS)

    async def flight(self, flight_id: UUID) -> Flight | None:
        """What a retrieval found, if its answer is still awaited."""
        found = await self._redis.get(_flight_key(flight_id))
        return Flight.model_validate_json(found) if found else None

    async def store(
        self,
        flight: Flight,
        question: str,
        answer: Any,
        cited: list[Cited],
        vector: Vector | None,
        *,
        asker: str | None = None,
    ) -> bool:
        """Remember an answer and end its flight; False when the flight has ended already."""
        fields: dict[str, Any] = {
            "question": question,
            "asker": asker or "",
            "answer": json.dumps(answer, ensure_ascii=False),
            "cited": json.dumps([item.model_dump(mode="json") for item in cited]),
            "vector": b"" if vector is None else vector.astype(np.float16).tobytes(),
        }
        stored = await self._store_script(
            keys=[
                _flight_key(flight.id),
                _exact_key(flight.scope, flight.question),
                _answer_key(flight.scope, flight.question),
                _semantic_key(flight.scope),
            ],
            args=[
                flight.model_dump_json(),
                *self._seconds,
                LARGEST_SCOPE,
                flight.question,
                b"" if vector is None else vector.tobytes(),
                *(part for field in fields.items() for part in field),
            ],
        )
        return bool(stored)

    async def _forget_made_for(self, asker: str, keys: list[bytes]) -> int:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(key, "asker")
            askers = await pipeline.execute() if keys else []
        found = [key.decode() for key, known in zip(keys, askers, strict=True) if known == asker.encode()]
        for name in found:
            scope, entry_id = name.split(":")[2:]
            await self.forget(scope, entry_id)
        return len(found)

    async def _remove(self, scope: str, *entry_ids: str) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for entry_id in entry_ids:
                pipeline.execute_command("VREM", _semantic_key(scope), entry_id)
            await pipeline.execute()


def _entry(entry_id: str, fields: dict[bytes, bytes]) -> Entry:
    vector = np.frombuffer(fields[b"vector"], dtype=np.float16)
    return Entry(
        id=entry_id,
        question=fields[b"question"].decode(),
        vector=unit(vector) if vector.size else None,
        answer=json.loads(fields[b"answer"]),
        cited=[Cited.model_validate(item) for item in json.loads(fields[b"cited"])],
    )


def _answer_key(scope: str, entry_id: str) -> str:
    return f"rag:answer:{scope}:{entry_id}"


def _exact_key(scope: str, entry_id: str) -> str:
    return f"rag:exact:{scope}:{entry_id}"


def _semantic_key(scope: str) -> str:
    return f"rag:semantic:{scope}"


def _flight_key(flight_id: UUID) -> str:
    return f"rag:flight:{flight_id}"
