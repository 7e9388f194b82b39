"""What coach's routes take from the running service."""

from typing import Annotated

from fastapi import Depends, Request

from coach.ask import Coach
from coach.completions import Completions


async def _coach(request: Request) -> Coach:
    coach: Coach = request.state.coach
    return coach


async def _completions(request: Request) -> Completions:
    completions: Completions = request.state.completions
    return completions


CoachDep = Annotated[Coach, Depends(_coach)]
CompletionsDep = Annotated[Completions, Depends(_completions)]
