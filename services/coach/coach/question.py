"""A question as asked becomes a question that can be answered: its game, language, context, prompt and model known."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi.exceptions import RequestValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from coach import extractive
from coach.clients import Retrieval
from coach.games import get_game, split_context
from coach.language import Locale, choose_locale
from coach.models import Game
from coach.prompts import Prompt, Prompts
from coach.settings import Settings
from coach.shapes import AskRequest
from common.identity import User


@dataclass(frozen=True)
class Question:
    """Everything the story needs to know of one question."""

    user_id: UUID
    text: str
    game: Game
    locale: Locale
    shared_context: dict[str, str]
    private_context: dict[str, str]
    conversation_id: UUID | None
    prompt: Prompt
    model: str
    idempotency_key: str | None

    def retrieval(self) -> Retrieval:
        """What rag is asked; a private context neither reads the caches nor writes them."""
        return Retrieval(
            game=self.game.slug,
            locale=self.locale,
            patch=self.game.patch,
            prompt_version=self.prompt.version,
            model=extractive.WRITER if self.model == extractive.MODEL else self.model,
            context=self.shared_context,
            question=self.text,
            cross_lingual=self.game.cross_lingual,
            use_cache=not self.private_context,
        )

    def identity(self) -> dict[str, Any]:
        """What makes two requests with one idempotency key the same."""
        context = self.shared_context | self.private_context
        return {
            "game": self.game.slug,
            "question": self.text,
            "locale": self.locale,
            "context": context,
            "conversation_id": self.conversation_id,
        }


async def read_question(
    session: AsyncSession, body: AskRequest, user: User, key: str | None, *, prompts: Prompts, settings: Settings
) -> Question:
    """Raises UnknownGameError, and for what does not fit the game the error of a malformed body."""
    game = await get_game(session, body.game)
    if body.locale and body.locale not in game.locales:
        wrong = {"type": "enum", "loc": ("body", "locale"), "msg": f"Input should be one of: {', '.join(game.locales)}"}
        raise RequestValidationError([wrong])
    shared, private = split_context(game, body.context)
    locale = choose_locale(body.question, asked=body.locale, preferred=user.locale, offered=game.locales)
    return Question(
        user_id=user.id,
        text=body.question,
        game=game,
        locale=locale,
        shared_context=shared,
        private_context=private,
        conversation_id=body.conversation_id,
        prompt=prompts.get(game.template, locale),
        model=model_of(game, settings),
        idempotency_key=key,
    )


def model_of(game: Game, settings: Settings) -> str:
    """Who writes this game's answers: without a key the sources are quoted."""
    if settings.openai_api_key is None:
        return extractive.MODEL
    return settings.chat_model or game.model or settings.default_model
