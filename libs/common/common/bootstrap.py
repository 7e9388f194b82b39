"""Prepares a database: per service a schema, a role that owns it, and a role that may only read and write its rows.

Command line: `python -m common.bootstrap`, as a superuser, before the first migration; running it again only renews
the passwords.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping

import asyncpg

SERVICES = ("auth", "coach", "rag", "worker", "admin")
ROLES = tuple(role for service in SERVICES for role in (f"{service}_owner", service))
URL = "DUGOUT_BOOTSTRAP_DATABASE_URL"
PASSWORDS = "DUGOUT_ROLE_PASSWORDS"

REQUIRED_EXTENSION = "vector"
OPTIONAL_EXTENSIONS = ("pg_trgm", "unaccent")
# Any number: two bootstraps at once would trip over each other's catalogue rows.
LOCK = 0xD060

# {0} is the service. A migration may take long; a request may not.
SCHEMA = """
CREATE SCHEMA IF NOT EXISTS {0};
ALTER SCHEMA {0} OWNER TO {0}_owner;
GRANT USAGE ON SCHEMA {0} TO {0};
GRANT USAGE ON SCHEMA extensions TO {0}, {0}_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE {0}_owner REVOKE EXECUTE ON ROUTINES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE {0}_owner IN SCHEMA {0} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {0};
ALTER DEFAULT PRIVILEGES FOR ROLE {0}_owner IN SCHEMA {0} GRANT USAGE ON SEQUENCES TO {0};
ALTER DEFAULT PRIVILEGES FOR ROLE {0}_owner IN SCHEMA {0} GRANT EXECUTE ON ROUTINES TO {0};
ALTER ROLE {0} SET search_path = {0}, extensions;
ALTER ROLE {0}_owner SET search_path = {0}, extensions;
ALTER ROLE {0} SET statement_timeout = '30s';
ALTER ROLE {0} SET lock_timeout = '10s';
ALTER ROLE {0} SET idle_in_transaction_session_timeout = '60s';
"""


async def bootstrap(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Makes roles, schemas, extensions and grants in the database of `admin_url`, in one transaction."""
    if missing := set(ROLES) - set(passwords):
        raise ValueError(f"no password for {', '.join(sorted(missing))}")
    connection = await asyncpg.connect(admin_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            for role in ROLES:
                await _make_role(connection, role, passwords[role])
            await _close_databases(connection)
            await _make_extensions(connection)
            for service in SERVICES:
                await connection.execute(SCHEMA.format(service))
    finally:
        await connection.close()


async def _make_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    exists = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if exists else "CREATE"
    limits = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    template = f"{verb} ROLE %I LOGIN {limits} PASSWORD %L"
    await connection.execute(
        await connection.fetchval("SELECT format($1, $2::text, $3::text)", template, role, password)
    )


async def _close_databases(connection: asyncpg.Connection) -> None:
    """Only our roles may connect here, nobody may make temporary tables here or in the databases every server has."""
    closed = await connection.fetch(
        "SELECT quote_ident(datname) FROM pg_database WHERE datname IN (current_database(), 'postgres', 'template1')"
    )
    for (database,) in closed:
        await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    here = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"GRANT CONNECT ON DATABASE {here} TO {', '.join(ROLES)}")
    await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")


async def _make_extensions(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE SCHEMA IF NOT EXISTS extensions")
    available = await connection.fetch(
        "SELECT name FROM pg_available_extensions WHERE name = ANY($1)", OPTIONAL_EXTENSIONS
    )
    for name in (REQUIRED_EXTENSION, *(row["name"] for row in available)):
        await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA extensions")
        await connection.execute(f"ALTER EXTENSION {name} SET SCHEMA extensions")  # where it was made elsewhere


def _main() -> None:
    try:
        url, passwords = os.environ[URL], json.loads(os.environ[PASSWORDS])
    except KeyError as missing:
        sys.exit(f"set {URL} and {PASSWORDS}: {missing} is not set")
    asyncio.run(bootstrap(url, passwords))


if __name__ == "__main__":
    _main()
