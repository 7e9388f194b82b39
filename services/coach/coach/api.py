"""Public routes: games, questions, history, feedback."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, StringConstraints

from coach import answers
from coach.ask import answer_once
from coach.deps import CoachDep
from coach.games import GamePublic, list_games
from coach.question import read_question
from coach.shapes import AnswerPublic, AskRequest, FeedbackCreate, History, HistoryItem
from coach.streams import stream, wants_events, whole
from common.db import SessionDep
from common.errors import problem_responses
from common.identity import CurrentUser


async def _keep_private(response: Response) -> None:
    """Replies here are one player's own."""
    response.headers["Cache-Control"] = "no-store"


router = APIRouter(
    prefix="/api/coach",
    tags=["coach"],
    dependencies=[Depends(_keep_private)],
    responses=problem_responses(401, 422, 503),
)

IdempotencyKey = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")] | None,
    Header(description="A retry with the same key returns the first reply, unpaid"),
]
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `Accept: text/event-stream` events "
        "`meta`, `token`…, `citation`…, and one `done` (the answer) or `error` (a problem document)",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


class Games(BaseModel):
    """The games one can ask about."""

    games: list[GamePublic]


@router.get("/games")
async def games(user: CurrentUser, session: SessionDep) -> Games:
    """Games with their languages, live patch, and what a question's `context` may hold."""
    return Games(games=[GamePublic.model_validate(game.model_dump()) for game in await list_games(session)])


@router.post("/ask", response_model=AnswerPublic, responses=EVENT_STREAM | problem_responses(404, 409, 500, 502, 504))
async def ask(
    body: AskRequest,
    user: CurrentUser,
    coach: CoachDep,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> AnswerPublic | Response:
    """Answer a question from the game's own knowledge base, with citations."""
    async with coach.sessions() as session:  # closed before the first call to anyone else
        question = await read_question(
            session, body, user, idempotency_key, prompts=coach.prompts, settings=coach.settings
        )
    story = partial(answer_once, question, coach)
    if wants_events(request):
        return await stream(request, story, heartbeat=coach.settings.heartbeat)
    return await whole(request, response, story)


@router.get("/answers")
async def history(
    user: CurrentUser,
    session: SessionDep,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> History:
    """Your answers, newest first; `next_cursor` of one page is the `cursor` of the next."""
    return await answers.history(session, user.id, cursor, limit)


@router.get("/answers/{answer_id}", responses=problem_responses(404))
async def answer(answer_id: UUID, user: CurrentUser, session: SessionDep) -> HistoryItem:
    """One of your answers."""
    return await answers.show(session, user.id, answer_id)


@router.post("/answers/{answer_id}/feedback", status_code=204, responses=problem_responses(404))
async def feedback(answer_id: UUID, body: FeedbackCreate, user: CurrentUser, session: SessionDep) -> None:
    """Say whether one of your answers helped; a later verdict replaces an earlier one."""
    await answers.rate(session, user.id, answer_id, body)
