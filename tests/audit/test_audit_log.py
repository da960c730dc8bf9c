"""Tests of the audit log: each change of a record has one entry with actor, order and values, but no secret."""

import json
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lastmile.db import Database

# For each audited table: a row, the column to change with its new value, and the subscriber of the row.
CHANGES = {
    "tenants": ("(id, name) VALUES ('new', 'New')", "name", "Newer", None),
    "customers": ("(tenant_id, ref, name, created_by_order) VALUES ('acme', 'C-9', 'Ada', 'O-1')", "name", "Bob", None),
    "subscribers": (
        "(tenant_id, ref, customer_id, created_by_order) SELECT 'acme', 'S-9', id, 'O-1' FROM customers LIMIT 1",
        "archive_reason",
        "moved",
        "S-9",
    ),
    "network_profiles": (
        "(tenant_id, subscriber_id, connection_type, option82_policy, created_by_order)"
        " SELECT 'acme', id, 'ftth', 'log', 'O-1' FROM subscribers LIMIT 1",
        "olt",
        "olt-7",
        "S-1",
    ),
    "billing_services": (
        "(tenant_id, subscriber_id, plan, status, created_by_order)"
        " SELECT 'acme', id, 'home', 'active', 'O-1' FROM subscribers LIMIT 1",
        "status",
        "suspended",
        "S-1",
    ),
    "devices": (
        "(tenant_id, subscriber_ref, kind, identity, in_service, created_by_order, updated_by_order)"
        " VALUES ('acme', 'S-1', 'onu', 'ABCD00000001', true, 'O-1', 'O-1')",
        "identity",
        "ABCD00000002",
        "S-1",
    ),
    "radcheck": (
        "(username, attribute, op, value) VALUES ('S-1@acme.lastmile', 'Cleartext-Password', ':=', 'hush')",
        "op",
        "==",
        "S-1",
    ),
    "radusergroup": ("(username, groupname) VALUES ('S-1@acme.lastmile', 'g')", "groupname", "h", "S-1"),
    "radreply": (
        "(username, attribute, value) VALUES ('S-1@acme.lastmile', 'Framed-IP-Address', '192.0.2.1')",
        "value",
        "192.0.2.2",
        "S-1",
    ),
    "nas": ("(nasname, shortname, secret) VALUES ('192.0.2.1', 'bng-1', 'hush')", "shortname", "bng-2", None),
    # The name changes, so the definition identifies the row.
    "radius_templates": ("(name, definition) VALUES ('own', '{}')", "name", "other", None),
    "radius_choices": (
        "(tenant_id, templates, slow_download_kbps, slow_upload_kbps) VALUES ('acme', '{wispr}', 1000, 1000)",
        "slow_upload_kbps",
        500,
        None,
    ),
    "pools": (
        "(tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)"
        " VALUES ('acme', 'more', 'ipv6_pd', '2001:db8:f00::/40', 56, 0, 65536, 0)",
        "region",
        "north",
        None,
    ),
    "suspensions": (
        "(tenant_id, subscriber_ref, mode, reason, created_by_order) VALUES ('acme', 'S-1', 'block', 'unpaid', 'O-1')",
        "mode",
        "slow",
        "S-1",
    ),
    "acknowledgements": (
        "(finding, invariant, tenant_id, subject, key, subscriber_ref, acknowledged_by, why)"
        " VALUES ('f', 'terminated_order', 'acme', 'O-1', 'O-1', 'S-1', 'noc', 'known')",
        "why",
        "known better",
        "S-1",
    ),
    "api_keys": (
        "(id, tenant_id, name, key_sha256, permissions, kind)"
        " VALUES ('0123456789ab', 'acme', 'crm', sha256('hush'), '{orders:write}', 'system')",
        "name",
        "billing",
        None,
    ),
    "device_controllers": (
        "(name, driver, kind, tenant_id, url, username, secret, timeout_seconds, in_flight, olts, models, options)"
        " VALUES ('olts', 'voltha', 'onu', 'acme', 'grpc://127.0.0.1', '', 'hush', 10, 8, '{}', '{}', '{}')",
        "url",
        "grpc://127.0.0.2",
        None,
    ),
    "hook_sources": (
        "(name, tenant_id, mapping, secret) VALUES ('crm', 'acme', 'uisp', sha256('hush'))",
        "mapping",
        "other",
        None,
    ),
}
CHANGES_OF_STATE = {"accepted_orders"}
"""The orders themselves are the record of who sent what: only changes of their state are recorded."""

SECRETS = {
    "radcheck": ("value", "quiet"),
    "nas": ("secret", "quiet"),
    "api_keys": ("key_sha256", b"quiet" + bytes(27)),
    "device_controllers": ("secret", b"quiet"),
    "hook_sources": ("secret", b"quiet"),
}
"""For each table with a secret: the column, and another value."""


@pytest.fixture
async def peopled(owner: asyncpg.Connection, database: Database) -> asyncpg.Connection:
    """The database with a customer and a subscriber, to which other records belong."""
    await owner.execute(
        "INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C-1', 'Ada', 'O-1');"
        "INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)"
        " SELECT 'acme', 'S-1', id, 'O-1' FROM customers"
    )
    return owner


async def entries(owner: asyncpg.Connection, after: int) -> list[asyncpg.Record]:
    return list(await owner.fetch("SELECT * FROM audit_log WHERE id > $1 ORDER BY id", after))


async def newest(owner: asyncpg.Connection) -> int:
    return int(await owner.fetchval("SELECT coalesce(max(id), 0) FROM audit_log"))


async def test_changes_cover_every_audited_table(owner: asyncpg.Connection) -> None:
    watched = await owner.fetch(
        "SELECT DISTINCT event_object_table FROM information_schema.triggers WHERE trigger_name = 'audit_log'"
    )
    assert {row[0] for row in watched} == CHANGES.keys() | CHANGES_OF_STATE


async def test_audit_log_has_one_entry_for_each_state_of_an_accepted_order(peopled: asyncpg.Connection) -> None:
    before = await newest(peopled)
    await peopled.execute(
        "INSERT INTO accepted_orders (tenant_id, order_id, operation, subscriber_ref, digest, urgency, when_busy,"
        " state, body) VALUES ('acme', 'O-1', 'provision', 'S-1', 'd', 'normal', 'refuse', 'waiting', 'hush')"
    )
    await peopled.execute("UPDATE accepted_orders SET claimed_until = now()")
    await peopled.execute("UPDATE accepted_orders SET state = 'refused', reason = 'no pool', body = NULL")
    await peopled.execute("DELETE FROM accepted_orders")
    (changed,) = await entries(peopled, before)
    assert (changed["record"], changed["key"], changed["subscriber_ref"]) == ("accepted_orders", "O-1", "S-1")
    assert json.loads(changed["before"]) == {"state": "waiting", "reason": None, "body": "secret"}
    assert json.loads(changed["after"]) == {"state": "refused", "reason": "no pool", "body": "secret"}


@pytest.mark.parametrize("table", CHANGES)
async def test_audit_log_has_one_entry_for_each_change(peopled: asyncpg.Connection, table: str) -> None:
    row, column, value, subscriber = CHANGES[table]
    before = await newest(peopled)
    identity = {"tenants": "id", "nas": "nasname", "radius_templates": "definition"}.get(table, "tenant_id")
    async with peopled.transaction():
        await peopled.execute(
            "SELECT set_config('lastmile.actor', 'the operator', true), set_config('lastmile.order', 'O-7', true)"
        )
        made = await peopled.fetchval(f"INSERT INTO {table} {row} RETURNING ctid")
        there = json.loads(await peopled.fetchval(f"SELECT to_jsonb(t) FROM {table} t WHERE ctid = $1", made))
        same = f"ctid = (SELECT max(ctid) FROM {table} WHERE {identity} = '{there[identity]}')"
        await peopled.execute(f"UPDATE {table} SET {column} = $1 WHERE {same}", value)
        await peopled.execute(f"UPDATE {table} SET {column} = $1 WHERE {same}", value)  # changes nothing
        await peopled.execute(f"DELETE FROM {table} WHERE {same}")

    created, changed, removed = await entries(peopled, before)

    masked = there | ({SECRETS[table][0]: "secret"} if table in SECRETS else {})
    assert (created["action"], created["before"], json.loads(created["after"])) == ("created", None, masked)
    assert (changed["action"], removed["action"], removed["after"]) == ("changed", "removed", None)
    assert json.loads(changed["before"]) == {column: there[column]}
    assert json.loads(changed["after"]) == {column: value}
    assert json.loads(removed["before"]) == masked | {column: value}
    for entry in (created, changed, removed):
        assert (entry["record"], entry["actor"], entry["order_id"]) == (table, "the operator", "O-7")
        assert entry["subscriber_ref"] == subscriber
        assert entry["tenant_id"] == {"tenants": "new", "nas": None, "radius_templates": None}.get(table, "acme")
    assert "hush" not in str([tuple(entry) for entry in (created, changed, removed)])


@pytest.mark.parametrize("table", SECRETS)
async def test_audit_log_of_a_changed_secret_omits_its_value(peopled: asyncpg.Connection, table: str) -> None:
    column, other = SECRETS[table]
    await peopled.execute(f"INSERT INTO {table} {CHANGES[table][0]}")
    before = await newest(peopled)
    await peopled.execute(f"UPDATE {table} SET {column} = $1", other)
    (changed,) = await entries(peopled, before)
    assert (changed["before"], changed["after"]) == (f'{{"{column}": "secret"}}',) * 2


async def test_audit_log_without_an_actor_names_the_login(peopled: asyncpg.Connection) -> None:
    assert {row["actor"] for row in await entries(peopled, 0)} == {await peopled.fetchval("SELECT session_user")}


async def test_audit_log_omits_changes_of_the_frontier(peopled: asyncpg.Connection) -> None:
    before = await newest(peopled)
    await peopled.execute("UPDATE pools SET frontier = frontier + 1")
    assert await entries(peopled, before) == []


@pytest.mark.parametrize(
    "change", ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_audit_log_refuses_updates_and_deletions(database: Database, change: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant("acme") as connection:
            await connection.execute(text(change))


async def test_audit_log_refuses_changes_by_the_platform(database: Database) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.platform() as connection:
            await connection.execute(text("UPDATE audit_log SET actor = 'nobody'"))


async def test_audit_log_shows_a_tenant_only_its_entries(peopled: asyncpg.Connection, database: Database) -> None:
    async def seen(tenant: str) -> set[Any]:
        async with database.tenant(tenant) as connection:
            return set(await connection.scalars(text("SELECT tenant_id FROM audit_log")))

    assert await seen("acme") == {"acme"}
    assert await seen("other") == {"other"}
    assert await seen("") == set()


async def test_audit_log_refuses_manual_entries(database: Database) -> None:
    forged = (
        "INSERT INTO audit_log (tenant_id, actor, record, key, action) VALUES ('acme', 'me', 'nas', 'k', 'created')"
    )
    for acting in (database.tenant("acme"), database.platform()):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with acting as connection:
                await connection.execute(text(forged))


async def test_audit_log_trigger_cannot_be_used_to_forge_an_entry(database: Database) -> None:
    """A trigger without a schema check would fire for any table with the name."""
    async with database.tenant("acme") as connection:
        for role in ("lastmile_app", "lastmile_platform", "lastmile_radius"):
            may = text("SELECT has_function_privilege(:role, 'lastmile_audit_log()', 'EXECUTE')")
            assert not await connection.scalar(may, {"role": role})


async def test_audit_log_cannot_be_replaced_by_a_temporary_table(
    peopled: asyncpg.Connection, database: Database
) -> None:
    before = await newest(peopled)
    async with database.tenant("acme") as connection:
        await connection.execute(text("CREATE TEMPORARY TABLE audit_log (LIKE public.audit_log INCLUDING DEFAULTS)"))
        await connection.execute(text("UPDATE customers SET name = 'Grace'"))
    assert [entry["action"] for entry in await entries(peopled, before)] == ["changed"]
