"""Alembic's entry for schema `coach`."""

from coach.models import CoachTable
from common.db import run_migrations

run_migrations(CoachTable.metadata)
