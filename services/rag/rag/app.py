"""Rag's wiring: `uvicorn --factory rag.app:build`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from common.app import create_app
from rag import api
from rag.answer_cache import AnswerCache
from rag.calibrated import Calibration
from rag.content import content_words
from rag.embedding import Embedder, Embeddings
from rag.freshness import Freshness
from rag.local_embedding import local_embedder
from rag.openai_embedding import openai_embedder
from rag.resources import Resources
from rag.settings import Settings
from rag.vectors import load_vectors

logger = logging.getLogger(__name__)


def build(settings: Settings | None = None) -> FastAPI:
    """The app; without `settings` they come from the environment."""
    return create_app("rag", settings or Settings(), [api.router, api.documents_router], lifespan)


@asynccontextmanager
async def lifespan(_: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Models first and warm, so that no question pays for their first use."""
    settings: Settings = state["settings"]
    sessions, redis = state["sessions"], state["cache_redis"]
    async with _embedder(settings) as provider:
        await asyncio.to_thread(content_words, "한국어 분석기 준비")
        calibration = Calibration.load(provider.name)
        semantic = "on" if calibration else f"off: no calibration for {provider.name}"
        logger.log(logging.INFO if calibration else logging.WARNING, "semantic cache %s", semantic)

        async def semantic_cache() -> str:
            return semantic

        yield {
            "resources": Resources(
                sessions=sessions,
                embeddings=Embeddings(provider, load_vectors(settings.vector_files, provider.name)),
                calibration=calibration,
                cache=AnswerCache(
                    redis,
                    exact_seconds=settings.exact_cache_seconds,
                    semantic_seconds=settings.semantic_cache_seconds,
                ),
                freshness=Freshness(redis, sessions),
            ),
            "checks": {"semantic_cache": semantic_cache},
            # Without the caches rag still answers.
            "advisory": frozenset({"redis_cache"}),
        }


def _embedder(settings: Settings) -> AbstractAsyncContextManager[Embedder]:
    if settings.embedding_provider == "openai" and settings.openai_api_key:
        key = settings.openai_api_key.get_secret_value()
        return openai_embedder(key, settings.openai_base_url, settings.embedding_model)
    return local_embedder(settings.embedding_threads)
