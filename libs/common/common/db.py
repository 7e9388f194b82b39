"""Postgres: engine, one transaction per request, migrations of one schema per service.

Command line: `python -m common.db migrate coach` brings coach's schema to its newest version.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import uuid_utils.compat
from alembic import command, context
from alembic.config import Config
from fastapi import Depends, Request
from sqlalchemy import Connection, MetaData, Table, pool
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import registry
from sqlmodel.ext.asyncio.session import AsyncSession

Sessions = async_sessionmaker[AsyncSession]

MIGRATION_URL = "DUGOUT_MIGRATION_DATABASE_URL"


def uuid7() -> UUID:
    """A time-ordered id; made here because Postgres before 18 has no `uuidv7()`."""
    return uuid_utils.compat.uuid7()


def utc_now() -> datetime:
    """The present moment, with its zone."""
    return datetime.now(UTC)


def schema_registry(schema: str) -> registry:
    """The registry for a service's table base: `class CoachTable(SQLModel, registry=schema_registry("coach"))`."""
    convention = {
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
    return registry(metadata=MetaData(schema=schema, naming_convention=convention))


def create_engine(url: str, *, application: str, pool_size: int) -> AsyncEngine:
    """An engine whose every wait is bounded; `application` is shown in `pg_stat_activity`."""
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        hide_parameters=True,  # in the text of an error, which is logged, they would be players' words
        connect_args={
            "timeout": 5,
            "command_timeout": 30,
            "server_settings": {"application_name": application},
        },
    )


def session_factory(engine: AsyncEngine) -> Sessions:
    """Sessions for `async with sessions.begin() as session`, which commits at its end."""
    return async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One request, one transaction."""
    sessions: Sessions = request.state.sessions
    async with sessions.begin() as session:
        yield session


# `scope="function"` commits before the response leaves; by default a failing commit would still answer 200.
SessionDep = Annotated[AsyncSession, Depends(open_session, scope="function")]


def alembic_config(package: str) -> Config:
    """Alembic's configuration for `<package>/migrations`, without an ini file."""
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def migrate(package: str) -> None:
    """Bring the schema of `package` to its newest version, as the owner role named in `MIGRATION_URL`."""
    command.upgrade(alembic_config(package), "head")


def run_migrations(metadata: MetaData) -> None:
    """What every `migrations/env.py` calls; Alembic has set the context up."""
    asyncio.run(_run_migrations(metadata))


async def _run_migrations(metadata: MetaData) -> None:
    # With the schema itself on the search path Alembic would take its tables for schema-less ones.
    settings = {"search_path": "extensions", "lock_timeout": "10s"}
    url = context.config.get_main_option("sqlalchemy.url") or os.environ[MIGRATION_URL]
    engine = create_async_engine(url, poolclass=pool.NullPool, connect_args={"server_settings": settings})
    async with engine.connect() as connection:
        await connection.run_sync(_migrate_connection, metadata)
        await connection.commit()
    await engine.dispose()


def _migrate_connection(connection: Connection, metadata: MetaData) -> None:
    schema = metadata.schema
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=schema,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name == schema,
        include_object=_not_the_version_table,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _not_the_version_table(item: object, *_: object) -> bool:
    return not (isinstance(item, Table) and item.name == "alembic_version")


def _main(arguments: list[str]) -> None:
    match arguments:
        case ["migrate", package] if package.isidentifier():
            migrate(package)
        case _:
            sys.exit("usage: python -m common.db migrate SERVICE")


if __name__ == "__main__":
    _main(sys.argv[1:])
