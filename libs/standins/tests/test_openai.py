"""OpenAI's own SDK against the stand-in: what it says, what it records, what it counts."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
from openai import AsyncOpenAI

from standins.gate import Gate
from standins.openai import OpenAIStandin

ASKED: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Who counters Janna?"}]}
USAGE = {"include_usage": True}


async def test_chat_says_what_is_queued_then_the_default(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("Blitzcrank: hook before her Q.")
    openai.default = lambda request: f"You asked {request['model']}."
    answers = [(await sdk.chat.completions.create(**ASKED)).choices[0].message.content for _ in range(2)]
    assert answers == ["Blitzcrank: hook before her Q.", "You asked gpt-4o-mini."]


async def test_default_answer_cites_the_first_passage_if_there_is_one(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    system = {"role": "system", "content": "Passages:\n[1] Archers\nWeak in melee."}
    with_passage = await sdk.chat.completions.create(**{**ASKED, "messages": [system, *ASKED["messages"]]})
    without = await sdk.chat.completions.create(**ASKED)
    assert "[1]" in (with_passage.choices[0].message.content or "")
    assert "[1]" not in (without.choices[0].message.content or "")


async def test_stream_gives_the_client_a_token_before_the_next_is_sent(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    gate = Gate()
    openai.say("one two three", pace=gate)
    heard: list[str] = []
    async with await sdk.chat.completions.create(**ASKED, stream=True, stream_options=USAGE) as stream:
        gate.release()
        async for chunk in stream:
            if not chunk.choices:
                usage = chunk.usage
            elif content := chunk.choices[0].delta.content:
                heard.append(content)
                assert len(openai.calls[0].sent_at) == len(heard)
                gate.release()
    assert heard == ["one ", "two ", "three"]
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 3)


async def test_stream_without_the_option_reports_no_usage(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    async with await sdk.chat.completions.create(**ASKED, stream=True) as stream:
        assert [chunk.usage async for chunk in stream if chunk.usage] == []


async def test_call_is_recorded_with_body_and_headers(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    await sdk.chat.completions.create(**ASKED, temperature=0.3, extra_headers={"traceparent": "00-abc"})
    (call,) = openai.chat_calls
    assert call.body == {**ASKED, "temperature": 0.3}
    assert call.headers["authorization"] == "Bearer test-key"
    assert call.headers["traceparent"] == "00-abc"
    assert (call.method, call.path, call.status) == ("POST", "/v1/chat/completions", 200)


async def test_calls_page_counts_without_counting_itself_or_telling_keys(
    openai: OpenAIStandin, sdk: AsyncOpenAI
) -> None:
    await sdk.chat.completions.create(**ASKED)
    async with httpx.AsyncClient(base_url=openai.url) as client:
        await client.get("/calls")
        page = await client.get("/calls")
    assert page.json()["by_path"] == {"/v1/chat/completions": 1}
    assert page.json()["calls"][0]["body"] == ASKED
    assert "test-key" not in page.text


async def test_answer_stops_at_the_token_limit(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("one two three")
    reply = await sdk.chat.completions.create(**ASKED, max_completion_tokens=2)
    assert reply.choices[0].message.content == "one two "
    assert reply.choices[0].finish_reason == "length"


async def test_client_that_leaves_is_noticed_and_billed_for_what_it_got(
    openai: OpenAIStandin, sdk: AsyncOpenAI
) -> None:
    gate = Gate()
    gate.release(2)
    openai.say("one two three four", pace=gate)
    async with await sdk.chat.completions.create(**ASKED, stream=True):
        await openai.until(lambda calls: len(calls[0].sent_at) == 2)
    (call,) = await openai.until(lambda calls: calls[0].ended_at)
    assert call.disconnected_at is not None
    assert openai.billed == {"prompt_tokens": 3, "completion_tokens": 2}


async def test_client_that_leaves_before_the_first_byte_is_noticed(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("never sent", hold=Gate())
    asking = asyncio.create_task(sdk.chat.completions.create(**ASKED))
    await openai.until(lambda calls: len(calls) == 1)
    asking.cancel()
    (call,) = await openai.until(lambda calls: calls[0].disconnected_at)
    assert call.status is None
    assert openai.billed == {"prompt_tokens": 3, "completion_tokens": 0}


async def test_client_that_stays_is_not_taken_for_gone(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    async with await sdk.chat.completions.create(**ASKED, stream=True) as stream:
        assert [chunk async for chunk in stream]
    (call,) = await openai.until(lambda calls: calls[0].ended_at)
    assert call.disconnected_at is None


async def test_parallel_calls_are_all_recorded(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    def echo(request: Mapping[str, Any]) -> str:
        return str(request["user"])

    openai.default = echo
    replies = await asyncio.gather(*(sdk.chat.completions.create(**ASKED, user=f"u{n}") for n in range(20)))
    assert [reply.choices[0].message.content for reply in replies] == [f"u{n}" for n in range(20)]
    assert openai.billed == {"prompt_tokens": 60, "completion_tokens": 20}


async def test_embeddings_are_the_same_for_the_same_text_only(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    reply = await sdk.embeddings.create(
        model="text-embedding-3-small", input=["궁수", "archer", "궁수"], dimensions=384
    )
    first, second, third = (item.embedding for item in reply.data)
    assert len(first) == 384
    assert first == third != second
    assert abs(sum(value * value for value in first) - 1) < 1e-5
    assert openai.calls[0].body["encoding_format"] == "base64"


async def test_embeddings_as_floats_equal_those_as_base64(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.dimensions = 8
    encoded = await sdk.embeddings.create(model="m", input="archer")
    plain = await sdk.embeddings.create(model="m", input="archer", encoding_format="float")
    assert encoded.data[0].embedding == plain.data[0].embedding


async def test_models_are_listed(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    assert "gpt-4o-mini" in [model.id async for model in sdk.models.list()]
