"""How the queues are: what waits, for how long, who works on it and how fast."""

import asyncio
import json
import time
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError
from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from common.db import utc_now
from common.errors import Text, UnavailableError
from common.jobs import QUEUES, Queue
from worker.models import Job, Queues, QueueStats

# Workers have this long to say who they are.
INSPECT_SECONDS = 0.5
CONSUMERS_KEPT_SECONDS = 5.0
RATE_MINUTES = 5
RETRY_HOURS = 24
# kombu keeps what workers hold but have not acknowledged under this key.
UNACKED = "unacked"


class BrokerUnavailableError(UnavailableError):
    code = "broker_unavailable"
    title = Text("The job broker cannot be reached", "작업 브로커에 연결할 수 없습니다")


class Consumers:
    """Counts the workers on each queue, asking them at most once in a few seconds."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._counts: Counter[str] = Counter()
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def count(self) -> Counter[str]:
        """Workers by queue."""
        async with self._lock:
            if time.monotonic() - self._asked_at > CONSUMERS_KEPT_SECONDS:
                self._counts = await asyncio.to_thread(self._ask)
                self._asked_at = time.monotonic()
        return self._counts

    def _ask(self) -> Counter[str]:
        replies = self._celery.control.inspect(timeout=INSPECT_SECONDS).active_queues() or {}
        return Counter(queue["name"] for queues in replies.values() for queue in queues)


class _History(NamedTuple):
    """What the job table tells of one queue."""

    oldest_seconds: float | None = None
    finished: int = 0
    retries: int = 0
    failed: int = 0


async def read_queues(session: AsyncSession, broker: Redis, consumers: Consumers) -> Queues:
    """All queues at this moment; raises BrokerUnavailableError."""
    try:
        depths = await _depths(broker)
        workers = await consumers.count()
    except (RedisError, OperationalError, OSError) as error:
        raise BrokerUnavailableError from error
    history = await _history(session)
    return Queues(queues=[_stats(name, depths[name], workers[name], history.get(name, _History())) for name in QUEUES])


def _stats(name: Queue, depth: int, consumers: int, history: _History) -> QueueStats:
    rate = history.finished / RATE_MINUTES
    eta = 0.0 if depth == 0 else depth / rate * 60 if rate else None
    return QueueStats(
        name=name,
        depth=depth,
        oldest_seconds=history.oldest_seconds,
        eta_seconds=eta,
        consumers=consumers,
        rate_per_minute=rate,
        retries=history.retries,
        dead_letters=history.failed,
    )


async def _depths(broker: Redis) -> Counter[str]:
    """Tasks waiting in the broker or held by a worker, by queue."""
    async with broker.pipeline(transaction=True) as pipe:
        for name in QUEUES:
            pipe.llen(name)
        pipe.hvals(UNACKED)
        *waiting, held = await pipe.execute()
    # Each value is [message, exchange, routing key]; the routing key is the queue's name.
    return Counter(dict(zip(QUEUES, waiting, strict=True))) + Counter(json.loads(value)[2] for value in held)


async def _history(session: AsyncSession) -> dict[str, _History]:
    now = utc_now()
    oldest = func.min(Job.created_at).filter(col(Job.state) == "queued")
    finished = func.count().filter(col(Job.finished_at) > now - timedelta(minutes=RATE_MINUTES))
    retries = func.sum(func.greatest(Job.attempts - 1, 0)).filter(
        col(Job.created_at) > now - timedelta(hours=RETRY_HOURS)
    )
    failed = func.count().filter(col(Job.state) == "failed")
    connection = await session.connection()
    rows = await connection.execute(select(col(Job.queue), oldest, finished, retries, failed).group_by(col(Job.queue)))
    return {
        queue: _History((now - since).total_seconds() if since else None, done, retried or 0, dead)
        for queue, since, done, retried, dead in rows
    }
