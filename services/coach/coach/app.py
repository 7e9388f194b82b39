"""Coach: answers players' questions from a game's knowledge base."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from coach import api, internal
from coach.ask import Coach
from coach.clients import RagClient
from coach.completions import completions
from coach.llm import LLM, openai_client
from coach.prompts import Prompts
from coach.settings import Settings
from coach.usage import Prices
from common.app import create_app
from common.http import ServiceAuth, http_client


def build(settings: Settings | None = None) -> FastAPI:
    """The service; `uvicorn --factory coach.app:build`."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        prompts = Prompts()  # first: a broken prompt must stop the start
        rag_auth = ServiceAuth(
            state["auth_client"],
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            audience="rag",
            scope="rag:answer",
        )
        async with (
            http_client(settings.rag_url, read_timeout=settings.retrieve_timeout, auth=rag_auth) as rag,
            openai_client(settings) as client,
        ):
            prices = Prices(state["sessions"])
            llm = LLM(client, prices, deadline=settings.model_deadline) if client else None
            coach = Coach(settings, state["sessions"], RagClient(rag), prompts, llm)
            # Inside the clients: calls still running at the end need them.
            async with completions(settings, state["sessions"], llm) as running:
                yield {"coach": coach, "completions": running}

    return create_app("coach", settings, [api.router, internal.router], lifespan)
