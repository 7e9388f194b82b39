"""The Celery process: `celery -A worker.tasks:celery worker -Q interactive,ingest,maintenance`.

Celery finds its app as an attribute of a module, so this one, and no other, reads the environment when imported.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from celery import signals

from common.db import create_engine, session_factory
from common.http import ServiceAuth, http_client
from common.jobs import IngestDocument, create_celery, handles
from common.logs import configure_logging
from common.telemetry import configure_tracing
from worker.alerts import Slack
from worker.clients import CoachClient, RagClient
from worker.ingest import Tools
from worker.run import OUTAGES, RetryPolicy, Runner
from worker.settings import KILL_AFTER_SECONDS, Settings

settings = Settings()
celery = create_celery(
    settings.broker_redis_url.get_secret_value(), visibility_timeout_seconds=settings.visibility_timeout_seconds
)

# One for the lock, one for a transaction.
CONNECTIONS = 2


@signals.setup_logging.connect
def set_up_logging(**_: Any) -> None:
    """Our log lines instead of Celery's; a connected handler keeps Celery from adding its own."""
    configure_logging(service="worker", level=settings.log_level, style=settings.log_format)
    # It repeats every job's payload and result at INFO; ours say the same with the request's id.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)


@signals.worker_process_init.connect
def set_up_tracing(**_: Any) -> None:
    """In each child: the thread that exports spans does not survive a fork."""
    configure_tracing("worker", settings.otlp_endpoint)


# Failures of a job are written down and retried by `Runner`; only where that cannot be written does Celery try again.
@handles(
    celery,
    IngestDocument,
    time_limit=settings.job_seconds + KILL_AFTER_SECONDS,
    autoretry_for=OUTAGES,
    retry_backoff=True,
    retry_backoff_max=60,
    max_retries=None,
)
async def ingest_document(job: IngestDocument) -> None:
    """Ingest what was uploaded."""
    async with open_runner() as runner:
        await runner.run(job.job_id)


@asynccontextmanager
async def open_runner() -> AsyncIterator[Runner]:
    """Connections for one task: its event loop ends with it, so nothing can be kept for the next."""
    async with AsyncExitStack() as stack:
        engine = create_engine(
            settings.database_url.get_secret_value(), application="worker-task", pool_size=CONNECTIONS
        )
        stack.push_async_callback(engine.dispose)
        auth = await stack.enter_async_context(http_client(settings.auth_url, read_timeout=5))

        async def client_of(callee: str, scope: str, url: str, seconds: float) -> httpx.AsyncClient:
            signed = ServiceAuth(
                auth, client_id="worker", client_secret=settings.client_secret, audience=callee, scope=scope
            )
            return await stack.enter_async_context(http_client(url, read_timeout=seconds, auth=signed))

        rag = await client_of("rag", "rag:documents", settings.rag_url, settings.rag_timeout_seconds)
        coach = await client_of("coach", "coach:complete", settings.coach_url, settings.coach_timeout_seconds)
        yield Runner(
            engine=engine,
            tools=Tools(session_factory(engine), RagClient(rag), CoachClient(coach), settings.summary_window_seconds),
            slack=Slack(settings.slack_webhook_url),
            policy=RetryPolicy(settings.job_attempts, settings.retry_first_seconds, settings.retry_longest_seconds),
            seconds=settings.job_seconds,
        )
