"""Migrations from nothing to the newest schema and back; the declared tables are those of the schema."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine

import ipam.tables  # noqa: F401

# Each declares its tables in the one `metadata`.
import lastmile.api.idempotency
import lastmile.api.rate_limits
import lastmile.audit.tables
import lastmile.db.audit_log
import lastmile.devices.pending_calls
import lastmile.devices.records
import lastmile.devices.rounds
import lastmile.metrics.snapshot
import lastmile.radius.tables
import lastmile.services.api_keys
import lastmile.services.controllers
import lastmile.services.hooks.events
import lastmile.services.hooks.sources
import lastmile.services.records.cursor_key
import lastmile.subscribers.tables  # noqa: F401
from lastmile.db import metadata
from lastmile.db.database import async_url
from lastmile.db.migrate import PostgresTooOldError, UnknownSchemaError, check_version, downgrade, pending, upgrade

# FreeRADIUS writes the table and Lastmile does not read it: the schema has it, the code declares none.
UNDECLARED = {"nasreload"}

# The code declares the columns that it reads and writes. Indexes, keys, checks and comments are in the schema alone;
# the tests of each domain show that keys and checks hold.
COMPARED = {"add_table", "remove_table", "add_column", "remove_column"}
COMPARED |= {"modify_type", "modify_nullable", "modify_default"}


@pytest.fixture
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    """The owner's URL of a database with nothing in it."""
    name = f"empty_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(make_url(postgres_url).set(database="postgres").render_as_string(hide_password=False))
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def relations_and_functions(url: str) -> set[str]:
    """Every relation and function of the schema `public`, but alembic's own."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        """
        SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        """
    )
    await connection.close()
    return {row["name"] for row in rows} - {"alembic_version", "alembic_version_pkc"}


async def mark(url: str, revision: str) -> None:
    """Let alembic's own table say that the database is at this revision."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    await connection.execute("INSERT INTO alembic_version VALUES ($1)", revision)
    await connection.close()


async def test_migration_up_and_down_and_up_again_gives_the_same_schema(empty_url: str) -> None:
    await upgrade(empty_url)
    newest = await relations_and_functions(empty_url)
    assert {"pools", "delegations", "orders", "radcheck", "lastmile_nth_prefix"} <= newest
    await downgrade(empty_url)
    assert await relations_and_functions(empty_url) == set()
    await upgrade(empty_url)
    assert await relations_and_functions(empty_url) == newest


async def test_migration_of_a_migrated_database_changes_nothing(empty_url: str) -> None:
    await upgrade(empty_url)
    connection = await asyncpg.connect(empty_url)
    await connection.execute("INSERT INTO tenants (id, name) VALUES ('acme', 'Acme Broadband')")
    await upgrade(empty_url)
    assert await connection.fetchval("SELECT count(*) FROM tenants") == 1
    await connection.close()


async def test_migration_by_two_processes_at_once_succeeds_in_both(empty_url: str) -> None:
    program = "import asyncio, sys; from lastmile.db.migrate import upgrade; asyncio.run(upgrade(sys.argv[1]))"
    both = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, empty_url) for _ in range(2)]
    assert [await process.wait() for process in both] == [0, 0]
    assert await pending(empty_url) == []


async def test_migration_beside_other_databases_of_the_cluster_shares_their_roles(
    empty_url: str, owner_url: str
) -> None:
    """Roles belong to the cluster: a second database finds them, and a downgrade leaves them to the others."""
    await upgrade(empty_url)
    assert await relations_and_functions(empty_url) == await relations_and_functions(owner_url)
    await downgrade(owner_url)
    await upgrade(owner_url)


async def test_pending_of_an_empty_database_lists_revisions_oldest_first(empty_url: str) -> None:
    before = await pending(empty_url)
    assert before[0] == "0001_initial"
    await upgrade(empty_url)
    assert await pending(empty_url) == []
    await downgrade(empty_url)
    assert await pending(empty_url) == before


async def test_declared_tables_are_the_tables_of_the_schema(owner_url: str) -> None:
    def differences(connection: Connection) -> list[str]:
        found: list[str] = []
        for difference in compare_metadata(MigrationContext.configure(connection), metadata):
            # Changes of one column come as a list: its type, whether it can be NULL.
            for change in difference if isinstance(difference, list) else [difference]:
                if change[0] in COMPARED:
                    found.append(describe(change))
        return found

    engine = create_async_engine(async_url(owner_url))
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert found == [f"remove_table {table}" for table in UNDECLARED]


def describe(change: tuple[object, ...]) -> str:
    kind = str(change[0])
    if kind.endswith("_table"):
        return f"{kind} {getattr(change[1], 'name', change[1])}"
    if kind.endswith("_column"):
        return f"{kind} {change[2]}.{getattr(change[3], 'name', change[3])}"
    return f"{kind} {change[2]}.{change[3]}: {change[-2]} there, {change[-1]} declared"


def test_migration_of_an_old_postgresql_is_refused_with_the_version() -> None:
    check_version(150_000)
    with pytest.raises(PostgresTooOldError, match=r"This is PostgreSQL 14\.19, and Lastmile needs 15 or newer"):
        check_version(140_019)


@pytest.mark.parametrize("revision", ["0001", "0012", "0019"])
async def test_migration_of_a_development_schema_is_refused_in_one_sentence(empty_url: str, revision: str) -> None:
    await mark(empty_url, revision)
    before = await relations_and_functions(empty_url)
    for migrate in (pending, upgrade, downgrade):
        with pytest.raises(UnknownSchemaError) as refused:
            await migrate(empty_url)
        assert str(refused.value) == (
            f"This database was made by a Lastmile of before its first release (schema {revision}) and cannot be "
            "migrated: create an empty database, and name it with DATABASE_OWNER_URL and DATABASE_URL. "
            "Nothing was changed."
        )
    assert await relations_and_functions(empty_url) == before


async def test_migration_of_a_newer_schema_names_the_version_to_install(empty_url: str) -> None:
    await mark(empty_url, "9999_later")
    with pytest.raises(
        UnknownSchemaError, match=r"made by a newer Lastmile .* cannot be migrated: install that version"
    ):
        await upgrade(empty_url)
    assert await pending(empty_url) == [], "a worker of this version works on the newer schema"


async def test_schema_of_every_domain_has_comments(owner: asyncpg.Connection) -> None:
    """Each table, view, function and index has a comment. The index of a key or constraint is explained by that."""
    silent = await owner.fetch(
        """
        SELECT c.relname AS name FROM pg_class c
        WHERE c.relnamespace::regnamespace::text IN ('public', 'kea') AND c.relkind IN ('r', 'v', 'i')
          AND c.relname !~ '^alembic_' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)
          AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT proname FROM pg_proc
        WHERE pronamespace::regnamespace::text IN ('public', 'kea') AND obj_description(oid, 'pg_proc') IS NULL
        """
    )
    assert [row["name"] for row in silent] == []
