"""From nothing to the newest schema and back; and the tables that the code declares are those that are made."""

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

# Each declares its tables in the one `metadata`.
import audit.tables  # noqa: F401
import db.trail  # noqa: F401
import devices.records  # noqa: F401
import figures.snapshot  # noqa: F401
import ipam.tables  # noqa: F401
import radius.tables  # noqa: F401
import subscribers.tables  # noqa: F401
from db import metadata
from db.database import async_url
from db.migrate import TooOld, check_version, downgrade, pending, upgrade

# FreeRADIUS writes it and Lastmile does not read it: the migration makes it, the code declares no table.
UNDECLARED = {"nasreload"}

# The code declares what it reads and writes. Indexes, keys and checks are said once, in the migrations, and
# the tests of each domain show that they hold.
COMPARED = {"add_table", "remove_table", "add_column", "remove_column"}


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


async def what_is_there(url: str) -> set[str]:
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


async def test_up_and_down_and_up_again(empty_url: str) -> None:
    await upgrade(empty_url)
    newest = await what_is_there(empty_url)
    assert {"pools", "delegations", "orders", "radcheck", "lastmile_nth_prefix"} <= newest
    await downgrade(empty_url)
    assert await what_is_there(empty_url) == set()
    await upgrade(empty_url)
    assert await what_is_there(empty_url) == newest


async def test_a_second_time_changes_nothing(empty_url: str) -> None:
    await upgrade(empty_url)
    connection = await asyncpg.connect(empty_url)
    await connection.execute("INSERT INTO tenants (id, name) VALUES ('acme', 'Acme Broadband')")
    await upgrade(empty_url)
    assert await connection.fetchval("SELECT count(*) FROM tenants") == 1
    await connection.close()


async def test_two_processes_at_once_do_not_collide(empty_url: str) -> None:
    program = "import asyncio, sys; from db.migrate import upgrade; asyncio.run(upgrade(sys.argv[1]))"
    both = [await asyncio.create_subprocess_exec(sys.executable, "-c", program, empty_url) for _ in range(2)]
    assert [await process.wait() for process in both] == [0, 0]
    assert await pending(empty_url) == []


async def test_a_database_beside_others_of_its_cluster(empty_url: str, owner_url: str) -> None:
    """Roles are the cluster's: who comes second finds them, and going down leaves them to the others."""
    await upgrade(empty_url)
    assert await what_is_there(empty_url) == await what_is_there(owner_url)
    await downgrade(owner_url)
    await upgrade(owner_url)


async def test_what_is_pending_is_said_oldest_first(empty_url: str) -> None:
    before = await pending(empty_url)
    assert before[0] == "0001"
    await upgrade(empty_url)
    assert await pending(empty_url) == []
    await downgrade(empty_url)
    assert await pending(empty_url) == before


async def test_the_tables_declared_are_the_tables_made(owner_url: str) -> None:
    def differences(connection: Connection) -> list[str]:
        found: list[str] = []
        for difference in compare_metadata(MigrationContext.configure(connection), metadata):
            # Changes of one column come as a list: its type, whether it can be NULL.
            for change in difference if isinstance(difference, list) else [difference]:
                if change[0] in COMPARED or change[0].startswith("modify_"):
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


def test_a_postgresql_that_is_too_old_is_refused_in_words() -> None:
    check_version(150_000)
    with pytest.raises(TooOld, match=r"This is PostgreSQL 14\.19, and Lastmile needs 15 or newer"):
        check_version(140_019)


async def test_migration_0019_keeps_lines_that_shared_vlans_or_a_circuit_id(
    empty_url: str,
) -> None:
    await upgrade(empty_url)
    await downgrade(empty_url, to="0018")
    owner = await asyncpg.connect(empty_url)
    add = """
        WITH s AS (INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
                   SELECT 'acme', $1, id, 'o' FROM customers RETURNING id)
        INSERT INTO network_profiles (tenant_id, subscriber_id, connection_type, option82_policy, created_by_order,
                                      olt, pon_port, s_vlan, c_vlan, circuit_id)
        SELECT 'acme', id, 'ftth', 'enforce', 'o', 'olt-1', '0/1', 100, $2, 'c-' || $2::integer FROM s
    """
    await owner.execute("INSERT INTO tenants (id, name) VALUES ('acme', 'Acme')")
    await owner.execute(
        "INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C', 'Ada', 'o')"
    )
    for nth, vlan in enumerate((201, 201, 202)):
        await owner.execute(add, f"S-{nth}", vlan)
    entries = await owner.fetchval("SELECT count(*) FROM trail")
    await upgrade(empty_url)
    marks = await owner.fetch("SELECT shares_vlans, shares_circuit FROM network_profiles ORDER BY created_at, id")
    assert sorted(tuple(row) for row in marks) == [(False, False), (False, False), (True, True)]
    assert await owner.fetchval("SELECT count(*) FROM trail") == entries, "no subscriber's record was changed"
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute(add, "S-9", 201)
    await owner.close()
