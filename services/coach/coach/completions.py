"""Model calls for our other services: run once per idempotency key, to the end, whoever hangs up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from coach import claims
from coach.games import ModelParameters, get_game
from coach.language import Locale
from coach.llm import LLM, ModelCall
from coach.models import Completion, Game
from coach.question import model_of
from coach.settings import Settings
from coach.shapes import Typed, UsagePublic
from common.db import Sessions, utc_now, uuid7
from common.errors import Text, UnavailableError

# Beyond the longest a call can take.
CLAIM_MARGIN_SECONDS = 60


class ModelNotConfiguredError(UnavailableError):
    code = "model_not_configured"
    title = Text("No model is configured", "AI 모델이 설정되지 않았습니다")


class CompletionRequest(BaseModel):
    """A model call; the game says which model, and with which parameters."""

    model_config = ConfigDict(extra="forbid")

    idempotency_key: Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,255}$")]
    game: Typed
    locale: Locale
    system: str
    prompt: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, le=16_000)]


class CompletionPublic(BaseModel):
    """Its result."""

    id: UUID
    text: str
    model: str
    usage: UsagePublic


class Completions:
    """The calls this process is making."""

    def __init__(self, settings: Settings, sessions: Sessions, llm: LLM | None) -> None:
        self._settings = settings
        self._sessions = sessions
        self._llm = llm
        self._running: dict[tuple[str, str, bytes], asyncio.Task[CompletionPublic]] = {}

    async def complete(self, client_id: str, request: CompletionRequest) -> CompletionPublic:
        """The stored result of this key, or a new one; a second caller of a running call waits for the same result.

        Raises ModelNotConfiguredError, claims.InProgressError (another process runs it), and what LLM.complete does.
        """
        if self._llm is None:
            raise ModelNotConfiguredError
        async with self._sessions() as session:
            game = await get_game(session, request.game)
        call = (client_id, request.idempotency_key, claims.digest(request.model_dump()))
        task = self._running.get(call)
        if task is None:
            task = self._running[call] = asyncio.create_task(self._once(self._llm, client_id, game, request))
            task.add_done_callback(lambda _: self._running.pop(call))
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for what still runs: it is being paid for."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _once(self, llm: LLM, client_id: str, game: Game, request: CompletionRequest) -> CompletionPublic:
        owner, key = f"complete:{client_id}", request.idempotency_key
        lease = timedelta(seconds=self._settings.model_deadline + CLAIM_MARGIN_SECONDS)
        earlier = await claims.take(self._sessions, owner, key, claims.digest(request.model_dump()), lease)
        if earlier:
            return await self._load(earlier)
        try:
            row = await self._run(llm, client_id, game, request)
            async with self._sessions.begin() as session:
                session.add(row)
                await claims.settle(session, owner, key, row.id)
        except BaseException:
            await claims.release(self._sessions, owner, key)
            raise
        return _public(row)

    async def _run(self, llm: LLM, client_id: str, game: Game, request: CompletionRequest) -> Completion:
        parameters = ModelParameters.model_validate(game.parameters).limited(request.max_tokens)
        call = ModelCall(model_of(game, self._settings), parameters, request.system, request.prompt)
        completed = await llm.complete(call, _ignore)
        return Completion(
            id=uuid7(),
            client_id=client_id,
            game=game.slug,
            locale=request.locale,
            text=completed.text,
            model=call.model,
            prompt_tokens=completed.usage.prompt_tokens,
            cached_prompt_tokens=completed.usage.cached_prompt_tokens,
            completion_tokens=completed.usage.completion_tokens,
            usage_estimated=completed.usage.estimated,
            cost_usd=completed.cost_usd,
            created_at=utc_now(),
        )

    async def _load(self, completion_id: UUID) -> CompletionPublic:
        async with self._sessions() as session:
            return _public(await session.get_one(Completion, completion_id))


@asynccontextmanager
async def completions(settings: Settings, sessions: Sessions, llm: LLM | None) -> AsyncIterator[Completions]:
    """Completions for as long as the service runs; what is running at its end is finished first."""
    running = Completions(settings, sessions, llm)
    try:
        yield running
    finally:
        await running.finish()


def _public(row: Completion) -> CompletionPublic:
    usage = UsagePublic(prompt_tokens=row.prompt_tokens, completion_tokens=row.completion_tokens, cost_usd=row.cost_usd)
    return CompletionPublic(id=row.id, text=row.text, model=row.model, usage=usage)


async def _ignore(piece: str) -> None:
    """The caller waits for the whole."""
