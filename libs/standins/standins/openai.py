"""An OpenAI-compatible server that says what it is told to, token by token, and fails on demand."""

import array
import asyncio
import base64
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from standins.calls import Call
from standins.completion import Completion, prompt_text
from standins.gate import Gate
from standins.standin import Exchange, Reply, Standin, run

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"
EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}
SERVED_MODELS = ("gpt-4o-mini", "text-embedding-3-small")


@dataclass(kw_only=True)
class ChatReply(Reply):
    """What the model says to one request, and how badly it goes."""

    text: str
    pace: Gate | None = None  # each token waits for a pass: a stall, or a test that looks between two tokens
    delay: float = 0.0  # seconds before each token
    finish_reason: str = "stop"
    usage: Mapping[str, Any] | Literal["counted", "missing"] = "counted"  # a mapping is a lie
    cut_after: int | None = None  # tokens sent before the connection is reset, 1 or more; unstreamed: half the body
    malformed_after: int | None = None  # tokens sent before a chunk that is no JSON
    split_utf8: bool = False  # each event leaves in two parts, the cut inside its first character beyond ASCII
    done: bool = True  # end a stream with [DONE]


DefaultReply = str | ChatReply | Callable[[Mapping[str, Any]], str | ChatReply]


def cite_first_passage(request: Mapping[str, Any]) -> str:
    """The default answer: it cites passage 1 where the prompt holds one."""
    source = "as passage [1] says" if "[1]" in prompt_text(request) else "without any passage"
    return f"Stand-in answer, {source}."


class OpenAIStandin(Standin):
    """`OPENAI_BASE_URL` is its `base_url`; it takes any key and any model."""

    def __init__(self, *, default: DefaultReply = cite_first_passage, log: Path | None = None) -> None:
        super().__init__(log=log)
        self.dimensions = 1536  # of an embedding, unless the request names another number
        self.default = self._initial_default = default
        self.routes |= {("POST", CHAT): self._chat, ("POST", EMBEDDINGS): self._embed, ("GET", MODELS): self._models}

    @property
    def base_url(self) -> str:
        """What the SDK calls `base_url`."""
        return f"{self.url}/v1"

    @property
    def chat_calls(self) -> list[Call]:
        """Calls that would cost money: chat completions."""
        return [call for call in self.calls if call.path == CHAT]

    @property
    def billed(self) -> dict[str, int]:
        """Tokens a provider would charge for all calls so far, aborted ones included, whatever was reported."""
        calls = self.calls
        return {
            "prompt_tokens": sum(call.prompt_tokens for call in calls),
            "completion_tokens": sum(call.completion_tokens for call in calls),
        }

    def say(self, text: str, **options: Any) -> None:
        """Answer the next unscripted chat call with `text`; `options` are the fields of ChatReply."""
        self.script(CHAT, ChatReply(text=text, **options))

    def fail(
        self, status: int, body: str = "", *, headers: Mapping[str, str] | None = None, path: str = CHAT, **options: Any
    ) -> None:
        """Answer the next unscripted call with a status, by default with the body OpenAI would send."""
        body = body or json.dumps({"error": _error("scripted_error", f"Scripted {status}")})
        self.script(path, Reply(status=status, body=body, headers=headers or {}, **options))

    def clear(self) -> None:
        """Forget calls, script and another default."""
        super().clear()
        self.default = self._initial_default

    async def _models(self, exchange: Exchange) -> None:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "standins"} for name in SERVED_MODELS]
        await exchange.answer_json({"object": "list", "data": models})

    async def _embed(self, exchange: Exchange) -> None:
        request = exchange.call.body
        if not isinstance(request, dict) or not request.get("input"):
            return await _refuse(exchange, "input")
        texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
        size = request.get("dimensions") or self.dimensions
        as_text = request.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector) if as_text else list(vector)}
            for index, vector in enumerate(embed(str(text), size) for text in texts)
        ]
        exchange.call.prompt_tokens = sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": exchange.call.prompt_tokens, "total_tokens": exchange.call.prompt_tokens}
        await exchange.answer_json({"object": "list", "data": data, "model": request.get("model"), "usage": usage})
        return None

    async def _chat(self, exchange: Exchange) -> None:
        request = exchange.call.body
        if not isinstance(request, dict) or not request.get("messages"):
            return await _refuse(exchange, "messages")
        reply = exchange.reply if isinstance(exchange.reply, ChatReply) else self._default_reply(request)
        completion = Completion(request, reply.text, reply.finish_reason)
        exchange.call.prompt_tokens = completion.prompt_tokens  # billed even if the client does not wait for a word
        await exchange.admitted()
        if request.get("stream"):
            with_usage = (request.get("stream_options") or {}).get("include_usage", False)
            return await _stream(exchange, reply, completion, with_usage=with_usage)
        return await _answer_at_once(exchange, reply, completion)

    def _default_reply(self, request: Mapping[str, Any]) -> ChatReply:
        said = self.default(request) if callable(self.default) else self.default
        return ChatReply(text=said) if isinstance(said, str) else said


async def _refuse(exchange: Exchange, missing: str) -> None:
    error = _error("invalid_request_error", f"Missing required parameter: '{missing}'.", missing)
    await exchange.answer_json({"error": error}, status=400)


def _error(kind: str, message: str, parameter: str | None = None) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": parameter, "code": None}


async def _stream(exchange: Exchange, reply: ChatReply, completion: Completion, *, with_usage: bool) -> None:
    async def send(chunk: Mapping[str, Any]) -> None:
        for part in _parts(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n", reply.split_utf8):
            await exchange.write(part)
            await asyncio.sleep(0)  # the part leaves before the next one is written

    await exchange.start(200, EVENT_STREAM)
    await send(completion.opening())
    for count, token in enumerate(completion.tokens, 1):
        await _take_token(exchange, reply)
        await send(completion.piece(token))
        if count == reply.malformed_after:
            await exchange.write(b'data: {"choices": [{"delta"\n\n')
        if count == reply.cut_after:
            return await exchange.reset()
    await send(completion.closing())
    usage = _reported_usage(reply, completion)
    if with_usage and usage is not None:
        await send(completion.usage_chunk(usage))
    await exchange.end(b"data: [DONE]\n\n" if reply.done else b"")
    return None


async def _answer_at_once(exchange: Exchange, reply: ChatReply, completion: Completion) -> None:
    for _ in completion.tokens:
        await _take_token(exchange, reply)
    body = json.dumps(completion.whole(_reported_usage(reply, completion)), ensure_ascii=False)
    if reply.cut_after is None:
        return await exchange.answer(200, body)
    await exchange.start(200, {"Content-Type": "application/json", "Content-Length": str(len(body.encode()))})
    await exchange.write(body.encode()[: len(body) // 2])
    return await exchange.reset()


async def _take_token(exchange: Exchange, reply: ChatReply) -> None:
    """Wait until the script allows one more token, which then counts as billed."""
    if reply.pace:
        await reply.pace.enter()
    await asyncio.sleep(reply.delay)
    with exchange.record.changing():
        exchange.call.sent_at.append(time.monotonic())
        exchange.call.completion_tokens += 1


def _parts(event: bytes, split_utf8: bool) -> Iterator[bytes]:
    inside = next((at + 1 for at, byte in enumerate(event) if byte > 0x7F), 0) if split_utf8 else 0
    if inside:
        yield event[:inside]
    yield event[inside:]


def _reported_usage(reply: ChatReply, completion: Completion) -> Mapping[str, Any] | None:
    if reply.usage == "missing":
        return None
    return completion.usage() if reply.usage == "counted" else reply.usage


def embed(text: str, dimensions: int) -> "array.array[float]":
    """A unit vector of single floats that is always the same for a text and far from any other's."""
    noise = array.array("h", hashlib.shake_256(text.encode()).digest(2 * dimensions))
    norm = math.hypot(*noise) or 1.0
    return array.array("f", (value / norm for value in noise))


def encode(vector: "array.array[float]") -> str:
    """How OpenAI writes a vector where the request asks for base64, as its SDK does by itself."""
    return base64.b64encode(vector.tobytes()).decode()


def run_openai(*, port: int = 0, **options: Any) -> AbstractContextManager[OpenAIStandin]:
    """A running server for a `with` block; `options` go to OpenAIStandin."""
    return run(OpenAIStandin(**options), port)
