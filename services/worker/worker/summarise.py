"""A transcript in short: by a model, window by window and then as a whole, or without one in the track's own words."""

import hashlib
import json
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence

from pydantic import BaseModel, Field, ValidationError

from worker.clients import CoachClient, Completion
from worker.extract import most_typical
from worker.models import Locale, Method
from worker.prompts import Prompt, TrackSummary, WindowNotes
from worker.subtitles import Line, cut, windows

logger = logging.getLogger(__name__)

# About a sentence: what one time code in a prompt, or one extract, stands for.
SENTENCE = 160
NOTES_TOKENS = 400
SUMMARY_TOKENS = 1200

Step = Callable[[], Awaitable[None]]


class Moment(BaseModel):
    """Something worth jumping to."""

    start_ms: int
    text: str


class Digest(BaseModel):
    """A summary in one language, and where it comes from."""

    locale: Locale
    method: Method
    model: str | None = None
    title: str
    text: str
    moments: list[Moment]


class _ReplyMoment(BaseModel):
    at: str = Field(pattern=r"^\[?\d{1,2}(:\d{2}){1,2}\]?$")
    text: str = Field(min_length=1, max_length=500)


class _Reply(BaseModel):
    title: str = Field(min_length=1, max_length=300)
    summary: str = Field(min_length=1, max_length=10_000)
    moments: list[_ReplyMoment]


class Track(BaseModel):
    """What is summarised."""

    game: str
    locale: Locale
    title: str
    lines: list[Line]

    def windows(self, seconds: int) -> list[list[Line]]:
        """Sentence-like pieces, grouped into stretches of `seconds`."""
        return [cut(window, SENTENCE) for window in windows(self.lines, seconds)]


async def summarise(
    track: Track, parts: Sequence[list[Line]], locales: Sequence[Locale], coach: CoachClient, step: Step
) -> list[Digest]:
    """Digests of `track` in all `locales`, or extracts in its own language when there is no model.

    `parts` are the track's windows; `step` is awaited after each of them.
    """
    notes: list[str] = []
    for part in parts:
        reply = await _ask(coach, track, WindowNotes(title=track.title, locale=track.locale, lines=part), NOTES_TOKENS)
        if reply is None:
            return [extract(track, parts)]
        notes.append(reply.text)
        await step()
    digests = [await _reduce(coach, track, notes, locale) for locale in locales]
    written = [digest for digest in digests if digest]
    return written or [extract(track, parts)]


async def _reduce(coach: CoachClient, track: Track, notes: list[str], locale: Locale) -> Digest | None:
    reply = await _ask(coach, track, TrackSummary(title=track.title, locale=locale, notes=notes), SUMMARY_TOKENS)
    if reply is None:
        return None
    try:
        said = _Reply.model_validate_json(_json_object(reply.text))
    except ValidationError:
        logger.warning("the model's summary cannot be read", extra={"model": reply.model, "locale": locale})
        return None
    moments = {moment.start_ms: moment for item in said.moments if (moment := _moment(item, track.lines))}
    return Digest(
        locale=locale,
        method="model",
        model=reply.model,
        title=said.title,
        text=said.summary,
        moments=[moments[start] for start in sorted(moments)],
    )


async def _ask(coach: CoachClient, track: Track, prompt: Prompt, max_tokens: int) -> Completion | None:
    system, user = prompt.render("system"), prompt.render("user")
    # The same words to the same end are one completion, whichever attempt or upload asks for it.
    identity = json.dumps([track.game, system, user, max_tokens], ensure_ascii=False)
    key = f"summary-{hashlib.sha256(identity.encode()).hexdigest()}"
    return await coach.complete(
        key=key, game=track.game, locale=track.locale, system=system, prompt=user, max_tokens=max_tokens
    )


def _json_object(text: str) -> str:
    """The outermost braces of a reply: models like to put a code fence or a greeting around them."""
    return text[text.find("{") : text.rfind("}") + 1]


def _moment(item: _ReplyMoment, lines: Sequence[Line]) -> Moment | None:
    """At the line that is said at that time; None for a time the track does not have."""
    milliseconds = 0
    for part in item.at.strip("[]").split(":"):
        milliseconds = milliseconds * 60 + int(part) * 1000
    # A time code is cut to whole seconds, so the line may start within that second.
    position = bisect_right(lines, milliseconds + 999, key=lambda line: line.start_ms) - 1
    if position < 0 or milliseconds > lines[-1].end_ms:
        return None
    return Moment(start_ms=lines[position].start_ms, text=item.text)


def extract(track: Track, parts: Sequence[list[Line]]) -> Digest:
    """One sentence of each window, the one that shares most with the whole; said in the track, nothing added."""
    chosen = most_typical(parts)
    moments = [Moment(start_ms=line.start_ms, text=line.text) for line in chosen]
    text = "\n".join(line.text for line in chosen)
    return Digest(locale=track.locale, method="extracted", title=track.title, text=text, moments=moments)
