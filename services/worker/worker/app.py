"""Wires the worker's API; the tasks run in a Celery process of their own (`worker.tasks`)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from common.app import create_app
from common.background import in_background
from common.jobs import create_celery, relaying
from worker import api
from worker.models import Outbox
from worker.queues import Consumers
from worker.resume import resume
from worker.settings import Settings


def build(settings: Settings | None = None) -> FastAPI:
    """The app, with settings from the environment unless given."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        celery = create_celery(
            settings.broker_redis_url.get_secret_value(),
            visibility_timeout_seconds=settings.visibility_timeout_seconds,
        )
        async with relaying(state["sessions"], Outbox, celery), in_background(resume(state["sessions"])):
            yield {"consumers": Consumers(celery)}

    return create_app("worker", settings, [api.router, api.privacy_router], lifespan)
