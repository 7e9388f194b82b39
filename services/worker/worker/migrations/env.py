"""Alembic's entry for schema `worker`."""

from common.db import run_migrations
from worker.models import WorkerTable

run_migrations(WorkerTable.metadata)
