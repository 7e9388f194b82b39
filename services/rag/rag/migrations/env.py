"""Alembic's entry for schema `rag`."""

from common.db import run_migrations
from rag.models import RagTable

run_migrations(RagTable.metadata)
