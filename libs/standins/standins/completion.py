"""The words of a scripted answer in OpenAI's shapes: tokens, chunks, a whole completion, usage."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4


def split_tokens(text: str) -> list[str]:
    """Words with the space behind them; joined again they are `text`."""
    return re.findall(r"\S+\s*|\s+", text)


def prompt_text(request: Mapping[str, Any]) -> str:
    """Everything the model was told."""
    parts: list[str] = []
    for message in request["messages"]:
        content = message.get("content") or ""
        parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "\n".join(parts)


class Completion:
    """One answer to one chat request."""

    def __init__(self, request: Mapping[str, Any], text: str, finish_reason: str) -> None:
        self.tokens = split_tokens(text)
        self.prompt_tokens = len(split_tokens(prompt_text(request)))
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        self._finish_reason = finish_reason
        if limit and limit < len(self.tokens):
            self.tokens = self.tokens[:limit]
            self._finish_reason = "length"
        self._common = {
            "id": f"chatcmpl-{uuid4().hex}",
            "created": int(time.time()),
            "model": request.get("model", ""),
        }

    def usage(self) -> dict[str, Any]:
        """The honest count."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.tokens),
            "total_tokens": self.prompt_tokens + len(self.tokens),
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def whole(self, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        """The reply to a request that does not stream."""
        message = {"role": "assistant", "content": "".join(self.tokens), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        reported = {} if usage is None else {"usage": usage}
        return {**self._common, "object": "chat.completion", "choices": [choice], **reported}

    def opening(self) -> dict[str, Any]:
        """The first chunk, which names the role only."""
        return self._chunk([_choice({"role": "assistant", "content": "", "refusal": None})])

    def piece(self, token: str) -> dict[str, Any]:
        """The chunk of one token."""
        return self._chunk([_choice({"content": token})])

    def closing(self) -> dict[str, Any]:
        """The chunk that says why the answer ends."""
        return self._chunk([_choice({}, self._finish_reason)])

    def usage_chunk(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """The last chunk, where the request asked for usage."""
        return {**self._chunk([]), "usage": usage}

    def _chunk(self, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {**self._common, "object": "chat.completion.chunk", "choices": choices}


def _choice(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
