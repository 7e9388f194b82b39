"""Embeddings of OpenAI, or of any server that speaks its API."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from openai import (
    APIConnectionError,
    APITimeoutError,
    AsyncOpenAI,
    DefaultAioHttpClient,
    InternalServerError,
    OpenAIError,
    RateLimitError,
)

from common.errors import AIError, AITimeoutError, AIUnavailableError
from rag.embedding import DIMENSIONS, Vector, clean, unit

# A request may hold 300,000 tokens; 128 chunks of 1,200 Korean characters are about 100,000.
BATCH = 128
TIMEOUT_SECONDS = 10.0


class OpenAIEmbedder:
    """One model of OpenAI's `embeddings`, at the width of our column."""

    def __init__(self, client: AsyncOpenAI, model: str) -> None:
        self._client = client
        self._model = model
        self.name = f"{model}-{DIMENSIONS}"

    async def embed_query(self, text: str) -> Vector:
        """The question's vector."""
        return (await self._embed([text]))[0]

    async def embed_passages(self, texts: Sequence[str]) -> list[Vector]:
        """The passages' vectors, asked for in batches, one after the other."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), BATCH):
            vectors += await self._embed(texts[start : start + BATCH])
        return vectors

    async def _embed(self, texts: Sequence[str]) -> list[Vector]:
        # The API refuses an empty text.
        inputs = [clean(text).strip() or "-" for text in texts]
        try:
            reply = await self._client.embeddings.create(model=self._model, input=inputs, dimensions=DIMENSIONS)
        except APITimeoutError as error:
            raise AITimeoutError from error
        except (APIConnectionError, RateLimitError, InternalServerError) as error:
            raise AIUnavailableError from error
        except OpenAIError as error:
            raise AIError from error
        return [unit(item.embedding) for item in sorted(reply.data, key=lambda item: item.index)]


@asynccontextmanager
async def openai_embedder(api_key: str, base_url: str | None, model: str) -> AsyncIterator[OpenAIEmbedder]:
    """A client of the API; failed calls are the caller's to repeat, so the SDK's own retries are off."""
    async with AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        max_retries=0,
        timeout=TIMEOUT_SECONDS,
        http_client=DefaultAioHttpClient(),
    ) as client:
        yield OpenAIEmbedder(client, model)
