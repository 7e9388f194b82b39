"""One page of figures from several services; one that is down leaves a gap, not an error."""

import asyncio
import logging
from collections.abc import Awaitable
from datetime import date
from typing import TypeVar

from admin.clients import AuthClient, CoachClient
from admin.models import By, Stats, Totals
from common.errors import AppError
from common.http import UpstreamProblemError

logger = logging.getLogger(__name__)

Part = TypeVar("Part")


async def read_stats(
    first: date | None, last: date | None, by: By, coach: CoachClient, auth: AuthClient, seconds: float
) -> Stats:
    """The figures of a period, as far as they can be had within `seconds`."""
    figures, players = await asyncio.gather(
        _part("coach", coach.stats(first, last, by), seconds), _part("auth", auth.players(), seconds)
    )
    return Stats(
        from_=figures.first if figures else first,
        to=figures.last if figures else last,
        by=by,
        totals=Totals(
            **(figures.totals.model_dump() if figures else {}),
            premium_share=players.premium_share if players else None,
        ),
        series=figures.series if figures else [],
        unavailable=[name for name, part in (("coach", figures), ("auth", players)) if part is None],
    )


async def _part(name: str, asked: Awaitable[Part], seconds: float) -> Part | None:
    """None when the service does not answer; what it says about the request itself (4xx) is passed on."""
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except UpstreamProblemError:
        raise
    except (AppError, TimeoutError) as error:
        logger.warning("statistics are incomplete", extra={"missing": name, "reason": type(error).__name__})
        return None
