"""Row-level security: every table of the catalogue is checked, so that a new table cannot be omitted."""

from dataclasses import dataclass

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from lastmile.db import Database

# NAS, Alembic's version, findings of the audit, metrics snapshots, ids of NetBox records, hashes of callers, and a key.
WITHOUT_TENANT = {
    *("nas", "nasreload", "alembic_version", "audit_findings", "metrics_snapshots", "radius_templates"),
    "device_rounds",
}
WITHOUT_TENANT |= {
    "netbox_failed_repairs",
    "netbox_comparisons",
    "netbox_pending_inspections",
    "rate_limits",
    "cursor_key",
}

ROLES = ("lastmile_app", "lastmile_platform", "lastmile_radius", "lastmile_kea")

READ_BY_FREERADIUS = {"radcheck", "radreply", "radusergroup", "radgroupcheck", "radgroupreply", "nas"}
WRITTEN_BY_FREERADIUS = {"radacct", "radpostauth", "nasreload"}

WITH_RIGHTS_OF_THE_OWNER = {
    "lastmile_account_named()": [],
    "lastmile_audit_log()": [],
    "lastmile_count()": [],
    "lastmile_find_account(text)": ["lastmile_app", "lastmile_platform", "lastmile_radius"],
    "lastmile_find_former_tenant(text)": ["lastmile_app", "lastmile_platform", "lastmile_radius"],
    "lastmile_is_foreign_account(text)": ["lastmile_app"],
    "lastmile_forget_customer(text)": ["lastmile_app"],
    "lastmile_drop_device_call(text,text,text,text)": ["lastmile_app"],
    "lastmile_read_credentials(text,boolean)": ["lastmile_app"],
    "lastmile_recount(text)": ["lastmile_platform"],
}
"""The SECURITY DEFINER functions, and the roles that may execute each."""

DENIED = "42501"
"""SQLSTATE insufficient_privilege: no right to the table, or a policy that refuses the row."""


@dataclass(frozen=True)
class Table:
    name: str
    protected: bool
    tenant: str
    """The column that says whose a row is."""
    source: str
    """The column to write in order to change that."""
    writable: list[str]
    """Return the columns that an INSERT may name."""


async def tables(owner: asyncpg.Connection) -> list[Table]:
    """Every table there is."""
    rows = await owner.fetch(
        """
        SELECT c.relname AS name, c.relrowsecurity AS protected,
               array_agg(a.attname::text) AS columns,
               array_agg(a.attname::text) FILTER (WHERE a.attgenerated = '' AND a.attidentity = '') AS writable
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
        GROUP BY c.oid ORDER BY c.relname
        """
    )
    found = []
    for row in rows:
        tenant = "tenant_id" if "tenant_id" in row["columns"] else "id"
        names = [tenant, "username", "groupname"]
        source = next((name for name in names if name in row["writable"]), tenant)
        found.append(Table(row["name"], row["protected"], tenant, source, row["writable"]))
    return found


async def protected(owner: asyncpg.Connection) -> list[Table]:
    return [table for table in await tables(owner) if table.protected]


async def owners_of_rows(connection: AsyncConnection, table: Table) -> set[str | None]:
    """Whose rows the connection sees."""
    return set((await connection.scalars(text(f"SELECT {table.tenant} FROM {table.name}"))).all())


async def refusal(connection: AsyncConnection, statement: str) -> str | None:
    """The SQLSTATE that the statement is refused with; None where it is carried out."""
    savepoint = await connection.begin_nested()
    try:
        await connection.execute(text(statement))
    except DBAPIError as failure:
        return str(getattr(failure.orig, "sqlstate", ""))
    finally:
        await savepoint.rollback()
    return None


async def rows_changed(connection: AsyncConnection, statement: str) -> int:
    """How many rows it would change; none where it may not change any."""
    if await refusal(connection, statement) == DENIED:
        return 0
    savepoint = await connection.begin_nested()
    changed = (await connection.execute(text(statement))).rowcount
    await savepoint.rollback()
    return changed


async def test_every_table_with_a_tenant_has_row_level_security(owner: asyncpg.Connection) -> None:
    assert {table.name for table in await tables(owner) if not table.protected} == WITHOUT_TENANT


async def test_every_view_uses_the_rights_of_its_reader(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        """
        SELECT relname, 'security_invoker=true' = ANY(reloptions) AS invoker FROM pg_class
        WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
        """
    )
    assert {row["relname"]: row["invoker"] for row in rows} == dict.fromkeys((row["relname"] for row in rows), True)
    assert len(rows) > 1


async def test_check_finds_a_table_without_row_level_security(owner: asyncpg.Connection) -> None:
    await owner.execute("CREATE TABLE forgotten (id bigint, tenant_id text)")
    assert {table.name for table in await tables(owner) if not table.protected} == {*WITHOUT_TENANT, "forgotten"}


async def definer_functions(owner: asyncpg.Connection) -> dict[str, list[str]]:
    """Every SECURITY DEFINER function there is, with the roles that may execute it."""
    rows = await owner.fetch(
        """
        SELECT p.oid::regprocedure::text AS name, array(
            SELECT role FROM unnest($1::text[]) AS role WHERE has_function_privilege(role, p.oid, 'EXECUTE')
        ) AS roles
        FROM pg_proc p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace
        """,
        ["public", *ROLES],
    )
    return {row["name"]: row["roles"] for row in rows}


async def test_functions_with_the_owners_rights_run_for_named_roles_alone(owner: asyncpg.Connection) -> None:
    assert await definer_functions(owner) == WITH_RIGHTS_OF_THE_OWNER


async def test_check_finds_a_function_that_public_may_execute(owner: asyncpg.Connection) -> None:
    await owner.execute("CREATE FUNCTION forgotten() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
    assert (await definer_functions(owner))["forgotten()"] == ["public", *ROLES]


async def test_no_function_returns_the_password_of_another_tenant(
    populated: asyncpg.Connection, application: Database
) -> None:
    account = await populated.fetchrow(
        "UPDATE radcheck SET value = 'their secret' WHERE tenant_id = 'other' RETURNING username, subscriber_ref"
    )
    callable_by_tenants = [name for name, roles in WITH_RIGHTS_OF_THE_OWNER.items() if "lastmile_app" in roles]
    async with application.tenant("acme") as connection:
        for name in callable_by_tenants:
            call = text(f"SELECT f::text FROM {name.replace('text', ':given').replace('boolean', 'false')} f")
            for given in account:
                answers = (await connection.scalars(call, {"given": given})).all()
                assert "their secret" not in "".join(map(str, answers)), name


async def test_without_a_tenant_nothing_is_seen(populated: asyncpg.Connection, application: Database) -> None:
    async with application.engine.begin() as connection:
        for table in await protected(populated):
            there = await populated.fetch(f"SELECT {table.tenant} FROM {table.name}")
            assert {row[0] for row in there} == {"acme", "other"}, f"the test puts no rows into {table.name}"
            assert await owners_of_rows(connection, table) == set(), table.name


async def test_tenant_reads_only_its_own_rows(populated: asyncpg.Connection, application: Database) -> None:
    for tenant in ("acme", "other"):
        async with application.tenant(tenant) as connection:
            for table in await protected(populated):
                assert await owners_of_rows(connection, table) == {tenant}, table.name


async def test_tenant_setting_ends_with_the_transaction(populated: asyncpg.Connection, application: Database) -> None:
    async with application.tenant("acme") as connection:
        backend = await connection.scalar(text("SELECT pg_backend_pid()"))
    async with application.engine.begin() as again:
        assert await again.scalar(text("SELECT pg_backend_pid()")) == backend
        assert await again.scalar(text("SELECT count(*) FROM customers")) == 0


async def test_platform_reads_all_rows(populated: asyncpg.Connection, application: Database) -> None:
    async with application.platform() as connection:
        for table in await protected(populated):
            assert await owners_of_rows(connection, table) == {"acme", "other"}, table.name


async def test_tenant_cannot_insert_rows_of_another(populated: asyncpg.Connection, application: Database) -> None:
    async with application.tenant("acme") as connection:
        for table in await protected(populated):
            columns = ", ".join(table.writable)
            theirs = await populated.fetchval(
                f"SELECT to_jsonb(t)::text FROM {table.name} t WHERE {table.tenant} = 'other'"
            )
            copy = f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM jsonb_populate_record(null::"
            row = theirs.replace(":", "\\:")  # a colon would be a parameter
            assert await refusal(connection, f"{copy}{table.name}, '{row}')") == DENIED, table.name


async def test_tenant_cannot_change_rows_of_another(populated: asyncpg.Connection, application: Database) -> None:
    async with application.tenant("acme") as connection:
        for table in await protected(populated):
            same = f"UPDATE {table.name} SET {table.source} = {table.source}"
            for statement in (same, f"DELETE FROM {table.name}"):
                changed = await rows_changed(connection, f"{statement} WHERE {table.tenant} = 'other'")
                assert changed == 0, f"{statement} changed a row of another tenant"


async def test_tenant_cannot_move_rows_to_another(populated: asyncpg.Connection, application: Database) -> None:
    async with application.tenant("acme") as connection:
        for table in await protected(populated):
            given = "x@other.lastmile" if table.source.endswith("name") else "other"
            statement = f"UPDATE {table.name} SET {table.source} = '{given}'"
            assert await refusal(connection, statement) == DENIED, table.name


async def test_append_only_tables_cannot_be_changed(populated: asyncpg.Connection, application: Database) -> None:
    async with application.tenant("acme") as connection:
        for table in ("billing_events", "delegation_events"):
            assert await refusal(connection, f"UPDATE {table} SET order_id = 'o2'") == DENIED
            assert await refusal(connection, f"DELETE FROM {table}") == DENIED


async def test_shared_pool_is_usable_and_not_changeable_by_tenants(
    populated: asyncpg.Connection, application: Database
) -> None:
    await populated.execute(
        """
        INSERT INTO pools (name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
            VALUES ('shared', 'ipv6_pd', '2001:db8:f::/48', 56, 0, 256, 1);
        INSERT INTO slots (pool_id, slot) SELECT id, 0 FROM pools WHERE tenant_id IS NULL
        """
    )
    async with application.engine.begin() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM pools")) == 0
        assert await connection.scalar(text("SELECT count(*) FROM slots")) == 0
    for tenant in ("acme", "other"):
        async with application.tenant(tenant) as connection:
            seen = await connection.scalars(text("SELECT name FROM pools ORDER BY id"))
            assert seen.all() == ["home", "shared"]
            for statement in (
                "DELETE FROM pools WHERE tenant_id IS NULL",
                "UPDATE pools SET end_slot = 1 WHERE tenant_id IS NULL",
                "INSERT INTO pools (name) VALUES ('mine')",
                "DELETE FROM slots WHERE tenant_id IS NULL",
            ):
                assert await refusal(connection, statement) == DENIED, statement


@pytest.mark.parametrize("role", ROLES)
async def test_roles_own_no_table_and_bypass_nothing(owner: asyncpg.Connection, role: str) -> None:
    attributes = await owner.fetchrow(
        """
        SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
               EXISTS (SELECT 1 FROM pg_shdepend WHERE refobjid = oid AND deptype = 'o') AS owner
        FROM pg_roles WHERE rolname = $1
        """,
        role,
    )
    assert not any(attributes.values()), dict(attributes)
    assert await owner.fetchval("SELECT NOT has_schema_privilege($1, 'public', 'CREATE')", role)


async def test_freeradius_reads_and_writes_its_own_tables_alone(populated: asyncpg.Connection) -> None:
    rights = {
        row["name"]: (row["read"], row["write"])
        for row in await populated.fetch(
            """
            SELECT relname AS name, has_any_column_privilege('lastmile_radius', oid, 'SELECT') AS read,
                   has_any_column_privilege('lastmile_radius', oid, 'INSERT, UPDATE')
                   OR has_table_privilege('lastmile_radius', oid, 'DELETE, TRUNCATE') AS write
            FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace = 'public'::regnamespace
            """
        )
    }
    assert {name for name, (_, write) in rights.items() if write} == WRITTEN_BY_FREERADIUS
    assert {name for name, (read, _) in rights.items() if read} == READ_BY_FREERADIUS | WRITTEN_BY_FREERADIUS
    async with populated.transaction():
        await populated.execute("SET LOCAL ROLE lastmile_radius")
        for table in READ_BY_FREERADIUS - {"nas"}:
            assert await populated.fetchval(f"SELECT count(DISTINCT tenant_id) FROM {table}") == 2, table
