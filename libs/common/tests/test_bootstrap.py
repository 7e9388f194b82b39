"""Tests of `common.bootstrap`: what each database role can do, and cannot, on a real Postgres."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from common.bootstrap import PASSWORDS, SERVICES, URL, bootstrap
from common.testing import Database

# Everything bootstrap decides, apart from passwords.
CATALOGUE = """
SELECT array_agg(line ORDER BY line) FROM (
    SELECT format('%s %s %s', rolname, rolsuper, rolconfig) AS line FROM pg_roles
    UNION ALL SELECT format('%s %s %s', nspname, nspowner, nspacl)
        FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
    UNION ALL SELECT format('%s %s', datname, datacl) FROM pg_database
    UNION ALL SELECT format('%s %s %s', defaclrole, defaclnamespace, defaclacl) FROM pg_default_acl
    UNION ALL SELECT format('%s %s', extname, extnamespace::regnamespace) FROM pg_extension
) AS decided
"""


@asynccontextmanager
async def connected(database: Database, role: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.url(role).replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def diary(database: Database) -> AsyncIterator[None]:
    """A table in coach's schema, made as a migration of coach would."""
    async with connected(database, "coach_owner") as owner:
        await owner.execute("CREATE TABLE coach.diary (id bigserial PRIMARY KEY, line text)")
        yield
        await owner.execute("DROP TABLE coach.diary")


@pytest.mark.usefixtures("diary")
async def test_runtime_role_reads_and_writes_rows_of_its_own_schema(database: Database) -> None:
    async with connected(database, "coach") as coach:
        await coach.execute("INSERT INTO diary (line) VALUES ('a'), ('b')")
        await coach.execute("UPDATE diary SET line = 'c' WHERE line = 'b'")
        await coach.execute("DELETE FROM diary WHERE line = 'a'")
        assert await coach.fetchval("SELECT string_agg(line, '') FROM diary") == "c"


@pytest.mark.usefixtures("diary")
@pytest.mark.parametrize("role", ["auth", "auth_owner"])
@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM coach.diary", "INSERT INTO coach.diary (line) VALUES ('x')", "DROP TABLE coach.diary"],
)
async def test_other_services_roles_cannot_touch_coachs_tables(database: Database, role: str, statement: str) -> None:
    async with connected(database, role) as stranger:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.execute(statement)


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE TABLE {role}.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE TABLE extensions.mine (id int)",
        "CREATE TEMP TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION {role}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION hstore SCHEMA {role}",
        "CREATE ROLE mine",
        "SET ROLE {role}_owner",
    ],
)
async def test_runtime_role_cannot_define_anything(database: Database, role: str, statement: str) -> None:
    async with connected(database, role) as runtime:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await runtime.execute(statement.format(role=role))


@pytest.mark.usefixtures("diary")
@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE diary ADD extra text", "TRUNCATE diary", "CREATE INDEX ON diary (line)", "DROP TABLE diary"],
)
async def test_runtime_role_cannot_change_its_own_tables(database: Database, statement: str) -> None:
    async with connected(database, "coach") as coach:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await coach.execute(statement)


@pytest.mark.parametrize("statement", ["CREATE SCHEMA mine", "CREATE TABLE public.mine (id int)", "SET ROLE coach"])
async def test_owner_role_cannot_leave_its_schema(database: Database, statement: str) -> None:
    async with connected(database, "auth_owner") as owner:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(statement)


@pytest.mark.parametrize("role", ["auth", "auth_owner"])
async def test_roles_cannot_connect_to_another_database(database: Database, role: str) -> None:
    address = database.url(role).replace("+asyncpg", "").rpartition("/")[0]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(f"{address}/template1")


async def test_vectors_are_found_without_naming_their_schema(database: Database) -> None:
    async with connected(database, "rag") as rag:
        assert await rag.fetchval("SELECT '[1,0]'::halfvec(2) <=> '[0,1]'::halfvec(2)") == 1


async def test_runtime_roles_have_bounded_waits(database: Database) -> None:
    async with connected(database, "rag") as rag, connected(database, "rag_owner") as owner:
        assert await rag.fetchval("SHOW statement_timeout") == "30s"
        assert await rag.fetchval("SHOW idle_in_transaction_session_timeout") == "1min"
        assert await owner.fetchval("SHOW statement_timeout") == "0"


async def test_second_bootstrap_changes_nothing_but_passwords(database: Database) -> None:
    passwords = {role: f"{role}-test-password" for service in SERVICES for role in (service, f"{service}_owner")}
    admin = await asyncpg.connect(database.admin_url)
    try:
        before = await admin.fetchval(CATALOGUE)
        await bootstrap(database.admin_url, {**passwords, "auth": 'it\'s "new" %s \\ 비밀'})
        with pytest.raises(asyncpg.InvalidPasswordError):
            async with connected(database, "auth"):
                pass
        await bootstrap(database.admin_url, passwords)
        assert await admin.fetchval(CATALOGUE) == before
        async with connected(database, "auth") as auth:
            assert await auth.fetchval("SELECT 1") == 1
    finally:
        await admin.close()


async def test_bootstrap_needs_a_password_for_every_role(database: Database) -> None:
    with pytest.raises(ValueError, match="no password for admin, admin_owner"):
        await bootstrap(database.admin_url, {role: "p" for s in SERVICES[:-1] for role in (s, f"{s}_owner")})


def test_command_line_names_the_variable_that_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in (URL, PASSWORDS)}
    command = [sys.executable, "-m", "common.bootstrap"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"'{URL}' is not set" in result.stderr
