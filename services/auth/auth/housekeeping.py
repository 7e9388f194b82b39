"""Deletes, now and then, what is over for good."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError

from auth import revocations
from common.db import Sessions

logger = logging.getLogger(__name__)

EVERY_SECONDS = 600.0


@asynccontextmanager
async def housekeeping(sessions: Sessions) -> AsyncIterator[None]:
    """In the background until the end; every process does it, which does no harm."""
    running = asyncio.create_task(_keep(sessions))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _keep(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            async with sessions.begin() as session:
                await revocations.forget_old(session)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("could not delete what is over", extra={"reason": type(error).__name__})
