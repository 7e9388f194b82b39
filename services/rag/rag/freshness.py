"""Whether cached answers still stand: generations of games and versions of documents, read without asking Postgres.

Postgres is the truth; the cache Redis holds copies. A publisher raises the copies before it commits, so that no answer
made from the old text is served once the new text is there. A copy lives for a minute: one that was raised for a
transaction that then failed heals by itself, at the price of a few misses. Copies only grow, so a slow reader cannot
put an old number back.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from redis.asyncio import Redis
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from common.db import Sessions
from rag.models import Document, Generation
from rag.shapes import Cited

COPY_SECONDS = 60

_RAISE = """
for i, key in ipairs(KEYS) do
  if tonumber(ARGV[i]) > tonumber(redis.call('GET', key) or '-1') then
    redis.call('SET', key, ARGV[i], 'EX', ARGV[#ARGV])
  end
end
"""


def generation_key(game: str) -> str:
    """Where the copy of a game's generation stands."""
    return f"rag:generation:{game}"


def version_key(document_id: UUID) -> str:
    """Where the copy of a document's version stands."""
    return f"rag:version:{document_id}"


async def stored_generation(session: AsyncSession, game: str) -> int:
    """A game's generation in Postgres; 0 before its first document."""
    row = await session.get(Generation, game)
    return row.number if row else 0


class Freshness:
    """Reads and raises the copies; all of it may raise RedisError."""

    def __init__(self, redis: Redis, sessions: Sessions) -> None:
        self._redis = redis
        self._sessions = sessions
        self._raise_script = redis.register_script(_RAISE)

    async def generation(self, game: str) -> int:
        """A game's generation."""
        key = generation_key(game)
        if (known := await self._redis.get(key)) is not None:
            return int(known)
        async with self._sessions() as session:
            number = await stored_generation(session, game)
        await self.raise_copies({key: number})
        return number

    async def all_current(self, cited: Iterable[Cited]) -> bool:
        """Whether each cited document is still at the cited version."""
        wanted = list(cited)
        versions = await self._versions([item.document_id for item in wanted])
        return all(versions[item.document_id] == item.version for item in wanted)

    async def raise_copies(self, numbers: Mapping[str, int]) -> None:
        """Set copies to higher numbers; lower ones are ignored."""
        if numbers:
            await self._raise_script(keys=list(numbers), args=[*numbers.values(), COPY_SECONDS])

    async def _versions(self, document_ids: Sequence[UUID]) -> dict[UUID, int]:
        if not document_ids:
            return {}
        copies = await self._redis.mget([version_key(item) for item in document_ids])
        versions = {item: int(copy) for item, copy in zip(document_ids, copies, strict=True) if copy is not None}
        if missing := [item for item in document_ids if item not in versions]:
            async with self._sessions() as session:
                rows = await session.exec(
                    select(Document.id, Document.version).where(
                        col(Document.id).in_(missing), col(Document.deleted_at).is_(None)
                    )
                )
                # What is deleted, or never was, has no version that could be cited.
                read = dict.fromkeys(missing, 0) | dict(rows.all())
            await self.raise_copies({version_key(item): version for item, version in read.items()})
            versions |= read
        return versions
