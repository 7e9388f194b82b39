"""Each scripted fault, as OpenAI's own SDK sees it."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError, RateLimitError

from standins.gate import Gate
from standins.openai import EMBEDDINGS, OpenAIStandin
from standins.standin import Reply

ASKED: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Who counters Janna?"}]}


async def hear(sdk: AsyncOpenAI, heard: list[str]) -> Any:
    """Stream an answer into `heard`; the usage it reports."""
    usage = None
    async with await sdk.chat.completions.create(
        **ASKED, stream=True, stream_options={"include_usage": True}
    ) as stream:
        async for chunk in stream:
            usage = chunk.usage or usage
            heard += [choice.delta.content for choice in chunk.choices if choice.delta.content]
    return usage


async def test_rate_limit_carries_its_headers_and_lasts_one_call(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.fail(429, headers={"Retry-After": "2"})
    with pytest.raises(RateLimitError) as caught:
        await sdk.chat.completions.create(**ASKED)
    assert caught.value.response.headers["Retry-After"] == "2"
    assert (await sdk.chat.completions.create(**ASKED)).choices
    assert [call.status for call in openai.chat_calls] == [429, 200]
    assert openai.chat_calls[0].prompt_tokens == 0


async def test_embeddings_fail_on_their_own(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.fail(500, path=EMBEDDINGS)
    assert (await sdk.chat.completions.create(**ASKED)).choices
    with pytest.raises(APIStatusError, match="Scripted 500"):
        await sdk.embeddings.create(model="m", input="archer")


async def test_connection_is_reset_before_any_answer(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.script("/v1/chat/completions", Reply(reset=True))
    with pytest.raises(APIConnectionError):
        await sdk.chat.completions.create(**ASKED)


async def test_stream_is_cut_after_the_tokens_that_were_sent(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("one two three", cut_after=2)
    heard: list[str] = []
    with pytest.raises((APIConnectionError, httpx.HTTPError)):
        await hear(sdk, heard)
    assert heard == ["one ", "two "]
    (call,) = openai.chat_calls
    assert (call.completion_tokens, call.disconnected_at) == (2, None)


async def test_whole_answer_is_cut_in_the_middle(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("one two three", cut_after=1)
    with pytest.raises(APIConnectionError):
        await sdk.chat.completions.create(**ASKED)


async def test_cut_is_a_reset_and_not_an_orderly_end(openai: OpenAIStandin) -> None:
    openai.say("one two three", cut_after=1)
    body = json.dumps({**ASKED, "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(openai.url.rpartition(":")[2]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_stall_in_the_middle_ends_when_released(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    gate = Gate()
    gate.release()
    openai.say("one two", pace=gate)
    heard: list[str] = []
    hearing = asyncio.create_task(hear(sdk, heard))
    await openai.until(lambda calls: calls and len(calls[0].sent_at) == 1)
    assert not hearing.done()
    gate.open()
    await hearing
    assert heard == ["one ", "two"]


async def test_stall_before_the_first_byte_ends_when_released(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    gate = Gate()
    openai.say("at last", hold=gate)
    asking = asyncio.create_task(sdk.chat.completions.create(**ASKED))
    (call,) = await openai.until(lambda calls: len(calls) == 1)
    assert call.status is None
    gate.release()
    assert (await asking).choices[0].message.content == "at last"


async def test_page_of_html_comes_with_status_200(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.fail(200, "<html>Please sign in</html>", headers={"Content-Type": "text/html"})
    reply = await sdk.chat.completions.with_raw_response.create(**ASKED)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html")
    assert reply.text == "<html>Please sign in</html>"


async def test_chunk_that_is_no_json_breaks_the_stream(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("one two", malformed_after=1)
    heard: list[str] = []
    with pytest.raises(json.JSONDecodeError):
        await hear(sdk, heard)
    assert heard == ["one "]


async def test_characters_cut_in_two_arrive_whole(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("궁수는 근접전에 약합니다", split_utf8=True)
    heard: list[str] = []
    await hear(sdk, heard)
    assert heard == ["궁수는 ", "근접전에 ", "약합니다"]


async def test_split_utf8_really_cuts_inside_a_character(openai: OpenAIStandin) -> None:
    openai.say("궁수", split_utf8=True)
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{openai.base_url}/chat/completions", json={**ASKED, "stream": True}) as reply,
    ):
        parts = [part async for part in reply.aiter_raw()]
    assert any(part.endswith("궁".encode()[:1]) for part in parts)


async def test_stream_ends_without_done(openai: OpenAIStandin) -> None:
    openai.say("one", done=False)
    async with httpx.AsyncClient() as client:
        reply = await client.post(f"{openai.base_url}/chat/completions", json={**ASKED, "stream": True})
    assert '"finish_reason": "stop"' in reply.text
    assert "[DONE]" not in reply.text


async def test_usage_is_missing_or_a_lie_while_the_bill_stays_true(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    openai.say("one two", usage="missing")
    openai.say("one two", usage={"prompt_tokens": 0, "completion_tokens": 900, "total_tokens": 900})
    missing = await hear(sdk, [])
    lie = await hear(sdk, [])
    assert missing is None
    assert lie.completion_tokens == 900
    assert openai.billed == {"prompt_tokens": 6, "completion_tokens": 4}


async def test_request_without_messages_is_refused(openai: OpenAIStandin, sdk: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="messages"):
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=[])
