"""What rag holds of a person: the questions behind cached answers, which are forgotten when that person is erased."""

import logging

from redis import RedisError

from common.errors import UnavailableError
from rag.resources import Resources
from rag.shapes import Forget, Forgotten

logger = logging.getLogger(__name__)


async def forget(order: Forget, at: Resources) -> Forgotten:
    """Remove all answers made for one asker. Without the cache it cannot be said that they are gone: 503, try again."""
    try:
        forgotten = await at.cache.forget_asker(order.asker)
    except RedisError as error:
        raise UnavailableError from error
    logger.info("answers forgotten", extra={"answers": forgotten})
    return Forgotten(forgotten=forgotten)
