"""The model client against a scripted server, through the real SDK, with a clock of the test's own."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from coach.games import ModelParameters
from coach.llm import (
    LLM,
    AIFilteredError,
    AIInterruptedError,
    AIRefusedError,
    AITruncatedError,
    Completed,
    ModelCall,
    openai_client,
)
from coach.usage import Prices, Usage
from common.db import Sessions, utc_now
from common.errors import AIError, AITimeoutError, AIUnavailableError
from standins.gate import Gate
from standins.openai import CHAT, EVENT_STREAM, ChatReply, OpenAIStandin
from standins.standin import Reply

from .conftest import MakeSettings

CALL = ModelCall("gpt-4o-mini", ModelParameters(temperature=0.3), "Answer.", "What is good against archers?")


@dataclass
class Clock:
    """Time that passes only in sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def llm(settings: MakeSettings, sessions: Sessions, clock: Clock) -> AsyncIterator[LLM]:
    """A model client with a deadline of 60 s."""
    async with openai_client(settings(model_silence=0.3)) as client:
        assert client is not None
        yield LLM(client, Prices(sessions), deadline=60, clock=clock, sleep=clock.sleep)


async def complete(llm: LLM, told: list[str] | None = None) -> Completed:
    pieces = told if told is not None else []

    async def tell(piece: str) -> None:
        pieces.append(piece)

    return await llm.complete(CALL, tell)


async def test_three_retries_after_1_2_and_4_seconds_with_full_jitter(
    llm: LLM, openai: OpenAIStandin, clock: Clock
) -> None:
    for _ in range(4):
        openai.fail(500)
    with pytest.raises(AIUnavailableError):
        await complete(llm)
    assert len(openai.chat_calls) == 4
    assert len(clock.slept) == 3
    for slept, base in zip(clock.slept, (1, 2, 4), strict=True):
        assert base <= slept <= 2 * base


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
async def test_a_passing_failure_is_retried(llm: LLM, openai: OpenAIStandin, clock: Clock, status: int) -> None:
    openai.fail(status)
    openai.say("Cavalry [1].")
    assert (await complete(llm)).text == "Cavalry [1]."
    assert len(clock.slept) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_lasting_failure_is_not_retried(llm: LLM, openai: OpenAIStandin, clock: Clock, status: int) -> None:
    openai.fail(status)
    with pytest.raises(AIUnavailableError):
        await complete(llm)
    assert len(openai.chat_calls) == 1
    assert clock.slept == []


async def test_an_empty_purse_is_not_retried(llm: LLM, openai: OpenAIStandin) -> None:
    error = {"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    openai.fail(429, json.dumps({"error": error}))
    with pytest.raises(AIUnavailableError):
        await complete(llm)
    assert len(openai.chat_calls) == 1


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "7.5"}, 7.5, 7.5),
        ({"Retry-After-Ms": "3500"}, 3.5, 3.5),
        ({"Retry-After": "0"}, 1, 2),
        ({"Retry-After": "soon"}, 1, 2),
        ({"Retry-After": "-5"}, 1, 2),
        ({"Retry-After": "nan"}, 1, 2),
    ],
)
async def test_retry_after_is_honoured_in_every_form(
    llm: LLM, openai: OpenAIStandin, clock: Clock, headers: dict[str, str], least: float, most: float
) -> None:
    openai.fail(429, headers=headers)
    await complete(llm)
    assert least <= clock.slept[0] <= most


@pytest.mark.parametrize(("seconds", "least", "most"), [(40, 30, 40), (-40, 1, 2)])
async def test_retry_after_may_be_a_date(
    llm: LLM, openai: OpenAIStandin, clock: Clock, seconds: int, least: float, most: float
) -> None:
    openai.fail(429, headers={"Retry-After": format_datetime(utc_now() + timedelta(seconds=seconds), usegmt=True)})
    await complete(llm)
    assert least <= clock.slept[0] <= most


async def test_a_retry_after_beyond_the_deadline_gives_up_at_once(
    llm: LLM, openai: OpenAIStandin, clock: Clock
) -> None:
    openai.fail(429, headers={"Retry-After": "3600"})
    with pytest.raises(AIUnavailableError):
        await complete(llm)
    assert (len(openai.chat_calls), clock.slept) == (1, [])


HTML = Reply(status=200, body="<html>Bad gateway</html>", headers={"Content-Type": "text/html"})
NO_JSON = Reply(status=200, body="data: {\n\n", headers=EVENT_STREAM)
NO_CHUNK = Reply(status=200, body="data: 5\n\ndata: null\n\n", headers=EVENT_STREAM)
ERROR_EVENT = Reply(status=200, body='data: {"error": {"message": "overloaded"}}\n\n', headers=EVENT_STREAM)
SILENT = ChatReply(text="never", hold=Gate())
EMPTY = ChatReply(text="")
BLANK = ChatReply(text=" \n ")


@pytest.mark.parametrize(
    "reply",
    [Reply(reset=True), HTML, NO_JSON, NO_CHUNK, ERROR_EVENT, SILENT, EMPTY, BLANK],
    ids=lambda reply: reply.body[:12],
)
async def test_what_is_no_answer_before_the_first_token_is_retried(
    llm: LLM, openai: OpenAIStandin, clock: Clock, reply: Reply
) -> None:
    openai.script(CHAT, reply)
    openai.say("Cavalry [1].")
    assert (await complete(llm)).text == "Cavalry [1]."
    assert len(clock.slept) == 1


@pytest.mark.parametrize(
    "fault",
    [{"cut_after": 2}, {"malformed_after": 2}, {"pace": "stalls"}, {"done": False, "finish_reason": ""}],
    ids=["cut", "malformed", "stalled", "no finish reason"],
)
async def test_nothing_is_retried_after_the_first_token(
    llm: LLM, openai: OpenAIStandin, clock: Clock, fault: dict[str, Any]
) -> None:
    if "pace" in fault:
        pace = Gate()
        pace.release(2)
        fault = {"pace": pace}
    openai.say("Cavalry is good [1].", **fault)
    told: list[str] = []
    with pytest.raises(AIInterruptedError):
        await complete(llm, told)
    assert told[:2] == ["Cavalry ", "is "]
    assert (len(openai.chat_calls), clock.slept) == (1, [])


async def test_silence_to_the_last_attempt_is_a_timeout(llm: LLM, openai: OpenAIStandin) -> None:
    for _ in range(4):
        openai.script(CHAT, ChatReply(text="never", hold=Gate()))
    with pytest.raises(AITimeoutError):
        await complete(llm)


async def test_one_deadline_over_all_attempts(
    settings: MakeSettings, sessions: Sessions, openai: OpenAIStandin
) -> None:
    openai.script(CHAT, ChatReply(text="never", hold=Gate()))
    async with openai_client(settings()) as client:
        assert client is not None
        with pytest.raises(AITimeoutError):
            await complete(LLM(client, Prices(sessions), deadline=0.2))
    assert len(openai.chat_calls) == 1


@pytest.mark.parametrize(
    ("finish_reason", "error"), [("length", AITruncatedError), ("content_filter", AIFilteredError)]
)
async def test_stops_that_are_no_end_have_their_names(
    llm: LLM, openai: OpenAIStandin, finish_reason: str, error: type[AIError]
) -> None:
    openai.say("Cavalry is", finish_reason=finish_reason)
    with pytest.raises(error):
        await complete(llm)
    assert len(openai.chat_calls) == 1


async def test_a_refusal_is_not_an_answer(llm: LLM, openai: OpenAIStandin) -> None:
    chunk = {"id": "1", "choices": [{"index": 0, "delta": {"refusal": "I can't help with that"}}]}
    openai.script(CHAT, Reply(status=200, body=f"data: {json.dumps(chunk)}\n\n", headers=EVENT_STREAM))
    with pytest.raises(AIRefusedError):
        await complete(llm)
    assert len(openai.chat_calls) == 1


async def test_half_a_letter_never_reaches_the_player(llm: LLM, openai: OpenAIStandin) -> None:
    chunk = {"id": "1", "choices": [{"index": 0, "delta": {"content": "Cavalry\ud83d"}, "finish_reason": "stop"}]}
    openai.script(CHAT, Reply(status=200, body=f"data: {json.dumps(chunk)}\n\n", headers=EVENT_STREAM))
    assert (await complete(llm)).text == "Cavalry"


async def test_letters_split_between_chunks_arrive_whole(llm: LLM, openai: OpenAIStandin) -> None:
    openai.say("기병은 궁수에게 강해요 [1].", split_utf8=True)
    assert (await complete(llm)).text == "기병은 궁수에게 강해요 [1]."


async def test_an_answer_without_a_done_line_is_whole_when_it_names_its_end(llm: LLM, openai: OpenAIStandin) -> None:
    openai.say("Cavalry [1].", done=False)
    assert (await complete(llm)).text == "Cavalry [1]."


@pytest.mark.parametrize(
    "usage",
    [
        "missing",
        "plenty",
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": "many", "completion_tokens": 5},
        {"prompt_tokens": 10**14, "completion_tokens": 5},
    ],
)
async def test_usage_that_is_missing_or_nonsense_is_counted_and_marked(
    llm: LLM, openai: OpenAIStandin, usage: Any
) -> None:
    openai.say("Cavalry is good [1].", usage=usage)
    completed = await complete(llm)
    assert completed.usage.estimated
    assert completed.usage.completion_tokens == 8
    assert completed.usage.prompt_tokens > 10
    assert completed.cost_usd


async def test_nonsense_about_cached_tokens_is_ignored(llm: LLM, openai: OpenAIStandin) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": "some"}
    openai.say("Cavalry is good [1].", usage=usage)
    assert (await complete(llm)).usage == Usage(prompt_tokens=10, completion_tokens=4)


async def test_cached_prompt_tokens_are_cheaper(llm: LLM, openai: OpenAIStandin) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 1000}}
    openai.say("Yes [1].", usage={"prompt_tokens": 1000, "completion_tokens": 0})
    openai.say("Yes [1].", usage={"prompt_tokens": 1000, "completion_tokens": 0, **details})
    assert str((await complete(llm)).cost_usd.normalize()) == "0.00015"  # type: ignore[union-attr]
    assert str((await complete(llm)).cost_usd.normalize()) == "0.000075"  # type: ignore[union-attr]
