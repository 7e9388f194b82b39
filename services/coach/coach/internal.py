"""Routes for our other services: games, statistics, model calls, personal data. Never routed by the gateway."""

import logging
from datetime import date, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from coach import privacy
from coach.completions import CompletionPublic, CompletionRequest
from coach.deps import CoachDep, CompletionsDep
from coach.games import GameSettings, list_games, put_game
from coach.stats import By, Stats, read_stats
from common.db import SessionDep
from common.errors import problem_responses
from common.identity import Service, User, require_acting_role, require_scope

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/internal", tags=["internal"], responses=problem_responses(401, 403, 422, 503))

DEFAULT_DAYS = 30
LONGEST_DAYS = 400
# Days before and after it exist in every zone.
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))]


class GameList(BaseModel):
    """All games as the operator set them."""

    games: list[GameSettings]


@router.put("/games/{slug}", dependencies=[Depends(require_scope("coach:games"))])
async def set_game(
    slug: str,
    body: GameSettings,
    admin: Annotated[User, Depends(require_acting_role("admin"))],
    coach: CoachDep,
    session: SessionDep,
) -> GameSettings:
    """Create or replace a game, on behalf of an admin."""
    await put_game(session, slug, body, coach.prompts)
    logger.info("game set", extra={"game": slug, "patch": body.patch, "admin": str(admin.id)})
    return body


@router.get("/games", dependencies=[Depends(require_scope("coach:games"))])
async def games(session: SessionDep) -> GameList:
    """All games by slug."""
    stored = [game.model_dump(exclude={"updated_at"}) for game in await list_games(session)]
    return GameList(games=[GameSettings.model_validate(game) for game in stored])


@router.get("/stats", dependencies=[Depends(require_scope("coach:read"))])
async def stats(
    coach: CoachDep,
    session: SessionDep,
    first: Annotated[Day | None, Query(alias="from")] = None,
    last: Annotated[Day | None, Query(alias="to")] = None,
    by: By = "day",
) -> Stats:
    """Figures from one day to another, both included; by default of the last 30 days."""
    zone = coach.settings.time_zone
    last = last or datetime.now(zone).date()
    first = first or last - timedelta(days=DEFAULT_DAYS - 1)
    if not timedelta(0) <= last - first <= timedelta(days=LONGEST_DAYS):
        message = f"The period must be of 1 to {LONGEST_DAYS} days"
        raise RequestValidationError([{"type": "value_error", "loc": ("query", "to"), "msg": message}])
    return await read_stats(session, first, last, by, zone)


@router.post("/completions")
async def complete(
    body: CompletionRequest,
    service: Annotated[Service, Depends(require_scope("coach:complete"))],
    completions: CompletionsDep,
) -> CompletionPublic:
    """One model call per idempotency key, run to the end whoever hangs up; its result is kept for 7 days."""
    return await completions.complete(service.client_id, body)


@router.get("/users/{user_id}/export", dependencies=[Depends(require_scope("coach:privacy"))])
async def export_user(user_id: UUID, coach: CoachDep, cursor: UUID | None = None) -> privacy.ExportPage:
    """A page of all that is kept of a person."""
    return await privacy.export_page(coach.sessions, user_id, cursor)


@router.post("/users/{user_id}/erase", status_code=204, dependencies=[Depends(require_scope("coach:privacy"))])
async def erase_user(user_id: UUID, body: privacy.Erase, coach: CoachDep) -> None:
    """Erase a person; a repetition does nothing more."""
    await privacy.erase(coach.sessions, coach.rag, user_id, body.pseudonym)
