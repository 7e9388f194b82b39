"""Deletes, now and then, what is over for good."""

import asyncio
import logging

from auth import revocations
from common.db import Sessions

logger = logging.getLogger(__name__)

EVERY_SECONDS = 600.0


async def keep_house(sessions: Sessions) -> None:
    """For ever; every process does it, which does no harm."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            async with sessions.begin() as session:
                await revocations.forget_old(session)
        except Exception as error:  # noqa: BLE001 - whatever it was, there is a next time
            logger.warning("could not delete what is over", extra={"reason": type(error).__name__})
