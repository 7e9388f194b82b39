"""The ways an answer comes about: repeated from a cache, written by the model, quoted, or told that there is none."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from coach import extractive
from coach.citations import MarkerFilter, cite
from coach.clients import Passage, RememberedAnswer, Retrieved
from coach.games import ModelParameters
from coach.language import Locale
from coach.llm import LLM, ModelCall
from coach.prompts import PromptVariables, numbered
from coach.question import Question
from coach.shapes import Citation, Token
from coach.streams import Tell, tell_text
from coach.usage import NO_USAGE, Usage
from common.errors import AIError, AITimeoutError, AIUnavailableError, Text

logger = logging.getLogger(__name__)

NOT_COVERED = Text(
    "The sources for this game do not cover this question.",
    "이 게임의 자료에서는 이 질문에 대한 내용을 찾지 못했습니다.",
)


@dataclass(frozen=True)
class Written:
    """An answer, and what it took. `saved_usd` is what a cached one had cost to write."""

    text: str
    citations: list[Citation] = field(default_factory=list)
    model: str | None = None
    degraded: bool = False
    usage: Usage = NO_USAGE
    cost_usd: Decimal | None = Decimal(0)
    saved_usd: Decimal | None = Decimal(0)
    ttft_ms: int | None = None


async def repeat(remembered: RememberedAnswer, tell: Tell) -> Written:
    """A cached answer, told as it was, for nothing."""
    await tell_text(remembered.answer, tell)
    return Written(
        remembered.answer,
        remembered.citations,
        model=remembered.model,
        saved_usd=remembered.cost_usd,
    )


async def say_not_covered(locale: Locale, tell: Tell) -> Written:
    """Nothing in the sources comes near: say so, and ask no model."""
    text: str = getattr(NOT_COVERED, locale)
    await tell_text(text, tell)
    return Written(text)


async def write(question: Question, found: Retrieved, llm: LLM | None, tell: Tell) -> Written:
    """A new answer by the model; quoted where there is none or where it fails before its first word."""
    if llm is None:
        return await quote(question, found.passages, tell, degraded=False)
    try:
        return await compose(question, found, llm, tell)
    except (AIUnavailableError, AITimeoutError) as error:  # of LLM.complete: nothing was told yet
        logger.warning("degraded answer", extra={"game": question.game.slug, "code": error.code})
        return await quote(question, found.passages, tell, degraded=True)


async def compose(question: Question, found: Retrieved, llm: LLM, tell: Tell) -> Written:
    """The model's answer token by token, with the markers of real passages only."""
    system = question.prompt.render(
        PromptVariables(
            game=question.game.titles[question.locale],
            patch=question.game.patch,
            sources_as_of=found.sources_as_of,
            context=question.shared_context | question.private_context,
            passages=numbered(found.passages),
        )
    )
    markers = MarkerFilter(len(found.passages))
    shown: list[str] = []

    async def show(piece: str) -> None:
        if text := markers.feed(piece):
            shown.append(text)
            await tell("token", Token(text=text))

    parameters = ModelParameters.model_validate(question.game.parameters)
    completed = await llm.complete(ModelCall(question.model, parameters, system, question.text), show)
    if not shown:  # nothing but markers of passages that do not exist
        raise AIError
    return Written(
        "".join(shown),
        cite(found.passages, markers.cited),
        model=question.model,
        usage=completed.usage,
        cost_usd=completed.cost_usd,
        ttft_ms=completed.ttft_ms,
    )


async def quote(question: Question, passages: Sequence[Passage], tell: Tell, *, degraded: bool) -> Written:
    """The sources themselves, word for word."""
    text, markers = extractive.quote(question.text, passages, question.locale, degraded=degraded)
    await tell_text(text, tell)
    return Written(text, cite(passages, markers), model=extractive.MODEL, degraded=degraded)
