"""Alembic's entry for schema `admin`."""

from admin.models import AdminTable
from common.db import run_migrations

run_migrations(AdminTable.metadata)
