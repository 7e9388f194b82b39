"""The model behind the OpenAI SDK: one retry loop, one deadline, and every way an answer can fail by its name."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from openai import (
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    DefaultAioHttpClient,
    Timeout,
)
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from opentelemetry import propagate
from prometheus_client import Counter, Histogram

from coach.games import ModelParameters
from coach.language import without_unusable
from coach.retries import BACKOFF_SECONDS, seconds_before_retry
from coach.settings import Settings
from coach.usage import Prices, Usage, estimated_usage, reported_usage
from common.errors import AIError, AITimeoutError, AIUnavailableError, Text

logger = logging.getLogger(__name__)

calls = Counter("coach_llm_calls_total", "Model calls by outcome, each attempt one", ["model", "outcome"])
tokens = Counter("coach_llm_tokens_total", "Tokens of finished model calls", ["model", "kind"])
cost_usd = Counter("coach_llm_cost_usd_total", "Cost of finished model calls in US dollars", ["model"])
first_token_seconds = Histogram(
    "coach_llm_first_token_seconds",
    "Time from the attempt's start to the model's first token",
    ["model"],
    buckets=(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20),
)


class AIInterruptedError(AIError):
    """The answer broke off after its first token: what was shown is not whole and must not look so."""

    code = "ai_interrupted"
    title = Text("The answer was cut off, please ask again", "답변이 중간에 끊겼습니다. 다시 질문해 주세요")


class AIRefusedError(AIError):
    code = "ai_refused"
    title = Text("The AI model declined to answer this", "AI 모델이 이 질문에 대한 답변을 거절했습니다")


class AIFilteredError(AIError):
    code = "ai_filtered"
    title = Text("The answer was stopped by a content filter", "콘텐츠 필터가 답변을 차단했습니다")


class AITruncatedError(AIError):
    code = "ai_truncated"
    title = Text("The answer grew too long and was cut off", "답변이 너무 길어져 중간에 끊겼습니다")


_STOPS: dict[str, type[AIError]] = {"length": AITruncatedError, "content_filter": AIFilteredError}


class _BrokenReplyError(Exception):
    """A reply that is no answer: HTML, broken JSON, an early end."""


@dataclass(frozen=True)
class ModelCall:
    """One question to a model."""

    model: str
    parameters: ModelParameters
    system: str
    prompt: str


@dataclass(frozen=True)
class Completed:
    """A whole answer. A cost of None: the price is not known."""

    text: str
    usage: Usage
    cost_usd: Decimal | None
    ttft_ms: int


@dataclass
class _Attempt:
    """What has arrived so far."""

    started: float
    pieces: list[str] = field(default_factory=list)
    first_token: float = 0.0
    finish_reason: str | None = None
    usage: CompletionUsage | None = None


Tell = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def openai_client(settings: Settings) -> AsyncIterator[AsyncOpenAI | None]:
    """The SDK's client, or None without a key."""
    if settings.openai_api_key is None:
        yield None
        return
    timeout = Timeout(settings.model_silence, connect=3.0, pool=5.0)
    async with AsyncOpenAI(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        max_retries=0,  # the only retry loop is LLM.complete
        timeout=timeout,
        http_client=DefaultAioHttpClient(timeout=timeout),
    ) as client:
        yield client


class LLM:
    """Model calls. The clock and the sleep are arguments so that tests need not wait."""

    def __init__(
        self,
        client: AsyncOpenAI,
        prices: Prices,
        *,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._prices = prices
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep

    async def complete(self, call: ModelCall, tell: Tell) -> Completed:
        """The model's answer, each piece told as it arrives.

        Until the first piece, failures worth it are retried after 1, 2 and 4 s (plus up to as much again, so that
        callers do not come back in step) or when the provider asks; AIUnavailableError and AITimeoutError then mean
        that nothing was told. After it nothing is retried: AIInterruptedError.
        """
        ends_at = self._clock() + self._deadline
        for backoff in (*BACKOFF_SECONDS, None):
            attempt = _Attempt(started=self._clock())
            try:
                async with asyncio.timeout(ends_at - self._clock()):
                    await self._run(call, attempt, tell)
            except AIError as error:
                self._count(call, error.code)
                raise
            except (APIError, _BrokenReplyError, TimeoutError) as error:
                self._note_failure(call, attempt, error)
                wait = seconds_before_retry(error, backoff)
                if attempt.pieces:
                    raise AIInterruptedError from error
                if wait is None or self._clock() + wait >= ends_at:
                    raise _as_ai_error(error) from error
                await self._sleep(wait)
            else:
                return await self._completed(call, attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _run(self, call: ModelCall, attempt: _Attempt, tell: Tell) -> None:
        trace: dict[str, str] = {}
        propagate.inject(trace)
        stream = await self._client.chat.completions.create(
            model=call.model,
            messages=[{"role": "system", "content": call.system}, {"role": "user", "content": call.prompt}],
            stream=True,
            stream_options={"include_usage": True},
            extra_body=call.parameters.model_dump(exclude_none=True),
            extra_headers=trace,
        )
        async with stream, aclosing(_pieces(stream, attempt)) as pieces:
            async for piece in pieces:
                if not attempt.pieces:
                    attempt.first_token = self._clock()
                    first_token_seconds.labels(call.model).observe(attempt.first_token - attempt.started)
                attempt.pieces.append(piece)
                await tell(piece)
        if stop := _STOPS.get(attempt.finish_reason or ""):
            raise stop
        if attempt.finish_reason is None or not attempt.pieces:
            raise _BrokenReplyError

    async def _completed(self, call: ModelCall, attempt: _Attempt) -> Completed:
        text = "".join(attempt.pieces)
        usage = reported_usage(attempt.usage)
        if usage is None:
            usage = await asyncio.to_thread(estimated_usage, call.system + call.prompt, text)
        cost = await self._prices.cost(call.model, usage)
        self._count(call, "estimated" if usage.estimated else "ok")
        tokens.labels(call.model, "prompt").inc(usage.prompt_tokens)
        tokens.labels(call.model, "cached_prompt").inc(usage.cached_prompt_tokens)
        tokens.labels(call.model, "completion").inc(usage.completion_tokens)
        cost_usd.labels(call.model).inc(float(cost or 0))
        return Completed(text, usage, cost, round((attempt.first_token - attempt.started) * 1000))

    def _note_failure(self, call: ModelCall, attempt: _Attempt, error: Exception) -> None:
        status = error.status_code if isinstance(error, APIStatusError) else None
        outcome = f"http_{status}" if status else type(error).__name__.removeprefix("_")
        self._count(call, "interrupted" if attempt.pieces else outcome)
        extra = {"model": call.model, "reason": outcome, "pieces": len(attempt.pieces)}
        logger.warning("model call failed", extra=extra)

    def _count(self, call: ModelCall, outcome: str) -> None:
        calls.labels(call.model, outcome).inc()


async def _pieces(stream: AsyncStream[ChatCompletionChunk], attempt: _Attempt) -> AsyncGenerator[str]:
    """The text of a stream; its end and its usage are noted in `attempt`."""
    try:
        async for chunk in stream:
            attempt.usage = chunk.usage or attempt.usage  # some servers report a running count in every chunk
            for choice in chunk.choices or []:
                attempt.finish_reason = choice.finish_reason or attempt.finish_reason
                delta: Any = choice.delta
                if getattr(delta, "refusal", None):
                    raise AIRefusedError
                piece = without_unusable(getattr(delta, "content", None) or "")
                # An answer begins with its first letter: one of blanks alone is none.
                if piece := piece if attempt.pieces else piece.lstrip():
                    yield piece
    except (ValueError, AttributeError, TypeError) as error:
        # The SDK checks nothing: what is not UTF-8, not JSON or not a chunk shows only here.
        raise _BrokenReplyError from error


def _as_ai_error(error: Exception) -> AIError:
    return AITimeoutError() if isinstance(error, TimeoutError | APITimeoutError) else AIUnavailableError()
