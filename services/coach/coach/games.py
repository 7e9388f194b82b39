"""The games players can ask about: what the operator sets, and what a question may say about a match."""

from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from coach.language import Locale
from coach.models import Game
from coach.prompts import Prompts
from common.db import utc_now
from common.errors import NotFoundError, Text

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Line = Annotated[str, Field(min_length=1, max_length=200)]


class UnknownGameError(NotFoundError):
    code = "unknown_game"
    title = Text("This game is not known here", "등록되지 않은 게임입니다")


class ModelParameters(BaseModel):
    """What is sent to the model besides the messages, exactly as written here; what is not set is not sent."""

    model_config = ConfigDict(extra="forbid")

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=32_000)
    # The newer name, which OpenAI's reasoning models insist on.
    max_completion_tokens: int | None = Field(None, ge=1, le=128_000)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    reasoning_effort: str | None = Field(None, max_length=20)
    seed: int | None = None

    def limited(self, tokens: int) -> "ModelParameters":
        """The same with another limit of output, under the name this game's model understands."""
        name = "max_completion_tokens" if self.max_completion_tokens else "max_tokens"
        return self.model_copy(update={name: tokens})


class PrivateField(BaseModel):
    """A field with personal text."""

    model_config = ConfigDict(extra="forbid")

    max_length: int = Field(200, ge=1, le=2000)


class ContextSchema(BaseModel):
    """Fields of `context`: shared ones have few values and join the cache scope, private ones bypass the cache."""

    model_config = ConfigDict(extra="forbid")

    shared: dict[Name, list[Line]] = {}
    private: dict[Name, PrivateField] = {}

    @model_validator(mode="after")
    def refuse_doubles(self) -> "ContextSchema":
        """A field is one or the other."""
        if both := self.shared.keys() & self.private.keys():
            raise ValueError(f"both shared and private: {', '.join(sorted(both))}")
        return self


class GamePublic(BaseModel):
    """A game as players see it."""

    slug: Name
    titles: dict[Locale, Line]
    locales: list[Locale] = Field(min_length=1)
    patch: Line
    context: ContextSchema = ContextSchema()
    sample_questions: dict[Locale, list[Line]] = {}


class GameSettings(GamePublic):
    """A game as the operator sets it; without `model` the deployment's default is used."""

    model_config = ConfigDict(extra="forbid")

    model: Line | None = None
    parameters: ModelParameters = ModelParameters()
    template: Name = "default"
    cross_lingual: bool = True

    @field_validator("locales")
    @classmethod
    def drop_doubles(cls, value: list[Locale]) -> list[Locale]:
        """Each once, in the operator's order: the first is the game's own."""
        return list(dict.fromkeys(value))

    @model_validator(mode="after")
    def have_titles(self) -> "GameSettings":
        """A title in every language of the game."""
        if missing := set(self.locales) - set(self.titles):
            raise ValueError(f"no title in {', '.join(sorted(missing))}")
        return self


async def get_game(session: AsyncSession, slug: str) -> Game:
    """The game, or UnknownGameError."""
    game = await session.get(Game, slug)
    if game is None:
        raise UnknownGameError
    return game


async def list_games(session: AsyncSession) -> list[Game]:
    """All games by slug."""
    return list(await session.exec(select(Game).order_by(Game.slug)))


async def put_game(session: AsyncSession, slug: str, settings: GameSettings, prompts: Prompts) -> None:
    """Create or replace a game; questions from now on see the new one."""
    if slug != settings.slug:
        raise RequestValidationError([{"type": "value_error", "loc": ("body", "slug"), "msg": f"The path says {slug}"}])
    if not prompts.has(settings.template):
        message = "There are no prompts of this name"
        raise RequestValidationError([{"type": "enum", "loc": ("body", "template"), "msg": message}])
    await session.merge(Game(**settings.model_dump(mode="json", exclude_none=True), updated_at=utc_now()))


def split_context(game: Game, context: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The shared and the private fields of a question's context; raises what a malformed body raises."""
    schema = ContextSchema.model_validate(game.context)
    errors = [error for name, value in context.items() if (error := _context_error(schema, name, value))]
    if errors:
        raise RequestValidationError(errors)
    shared = {name: value for name, value in context.items() if name in schema.shared}
    return shared, {name: value for name, value in context.items() if name in schema.private}


def _context_error(schema: ContextSchema, name: str, value: str) -> dict[str, Any] | None:
    place = ("body", "context", name)
    if name in schema.shared:
        allowed = schema.shared[name]
        message = f"Input should be one of: {', '.join(allowed)}"
        return None if value in allowed else {"type": "enum", "loc": place, "msg": message}
    if name in schema.private:
        limit = schema.private[name].max_length
        message = f"String should have at most {limit} characters"
        return None if len(value) <= limit else {"type": "string_too_long", "loc": place, "msg": message}
    return {"type": "extra_forbidden", "loc": place, "msg": "This game has no such field"}
