"""Alembic's entry for schema `auth`."""

from auth.models import AuthTable
from common.db import run_migrations

run_migrations(AuthTable.metadata)
