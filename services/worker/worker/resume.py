"""Brings back the jobs of killed processes, for as long as the worker's API runs."""

import asyncio
import logging

from common.db import Sessions
from worker import jobs
from worker.run import OUTAGES

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10


async def resume(sessions: Sessions) -> None:
    """Looks for them at once, when a killed system starts again, and then every few seconds."""
    while True:
        try:
            for job_id in await jobs.order_abandoned(sessions):
                logger.warning("a killed process left a job behind; it is ordered again", extra={"job_id": str(job_id)})
        except OUTAGES as error:
            logger.warning("abandoned jobs cannot be looked for", extra={"reason": type(error).__name__})
        await asyncio.sleep(LOOK_SECONDS)
