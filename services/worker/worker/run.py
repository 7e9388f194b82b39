"""One attempt at a job: nobody else at the same time, within its deadline, and an ending that is written down."""

import asyncio
import logging
import random
from dataclasses import dataclass
from uuid import UUID

from asyncpg import PostgresError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from common.errors import AppError, Text, UnavailableError, UpstreamTimeoutError
from worker import jobs
from worker.alerts import Slack
from worker.ingest import Tools, ingest
from worker.models import Job, Upload

logger = logging.getLogger(__name__)

# A duplicate of a job that is running looks again after this long, in case its twin's process dies.
BUSY_SECONDS = 30
# What may be over by the next attempt: the same call still under way, limits, failing neighbours, outages, delays.
# Anything else will fail again.
TRANSIENT = frozenset({409, 429, 502, 503, 504})
# What a database that is away looks like.
OUTAGES = (OSError, PostgresError, DBAPIError, PoolTimeoutError)


class JobTimeoutError(UpstreamTimeoutError):
    code = "job_timeout"
    title = Text("The job took too long", "작업 시간이 초과되었습니다")


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and how long after a failure; waits double, and are spread so that no crowd returns at once."""

    attempts: int
    first_seconds: float
    longest_seconds: float

    def delay(self, attempt: int) -> float:
        """Seconds between `attempt` and the next one."""
        longest = min(self.first_seconds * 2 ** (attempt - 1), self.longest_seconds)
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, guards nothing


@dataclass(frozen=True)
class Runner:
    """Runs jobs with these tools under this policy."""

    engine: AsyncEngine
    tools: Tools
    slack: Slack
    policy: RetryPolicy
    seconds: float

    async def run(self, job_id: UUID) -> None:
        """One attempt at the job, unless it is finished."""
        async with jobs.alone(self.engine, job_id) as mine:
            if not mine:
                await jobs.look_again(self.tools.sessions, job_id, BUSY_SECONDS)
                return
            job = await jobs.start(self.tools.sessions, job_id)
            if job is None:
                logger.info("nothing to do: the job has finished before", extra={"job_id": str(job_id)})
            elif job.attempts > self.policy.attempts:
                await self._give_up(job, jobs.AttemptsExhaustedError())
            elif failure := await self._attempt(job):
                await self._retry_or_give_up(job, failure)

    async def _attempt(self, job: Job) -> AppError | None:
        """What went wrong, if anything."""

        async def report(done: int, total: int) -> None:
            await jobs.report(self.tools.sessions, job.id, done=done, total=total)

        try:
            async with asyncio.timeout(self.seconds):
                async with self.tools.sessions() as session:
                    upload = await session.get_one(Upload, job.upload_id)
                result = await ingest(upload, self.tools, report)
        except AppError as error:
            return error
        except TimeoutError:
            return JobTimeoutError()
        except OUTAGES:
            logger.exception("the database failed a job", extra={"job_id": str(job.id)})
            return UnavailableError()
        except Exception:
            logger.exception("unexpected error in a job", extra={"job_id": str(job.id)})
            return AppError()
        await jobs.succeed(self.tools.sessions, job.id, result)
        logger.info("job succeeded", extra={"job_id": str(job.id), "attempt": job.attempts})
        return None

    async def _retry_or_give_up(self, job: Job, failure: AppError) -> None:
        if failure.status not in TRANSIENT or job.attempts >= self.policy.attempts:
            await self._give_up(job, failure)
            return
        delay = self.policy.delay(job.attempts)
        await jobs.put_back(self.tools.sessions, job.id, failure, delay)
        extra = {"job_id": str(job.id), "attempt": job.attempts, "code": failure.code, "seconds": round(delay, 1)}
        logger.warning("job failed and will be tried again", extra=extra)

    async def _give_up(self, job: Job, failure: AppError) -> None:
        await jobs.fail(self.tools.sessions, job.id, failure)
        extra = {"job_id": str(job.id), "attempt": job.attempts, "code": failure.code}
        logger.error("job failed", extra=extra)
        await self.slack.send(f"Job {job.kind} {job.id} failed after {job.attempts} attempts: {failure.code}")
