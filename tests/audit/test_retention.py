"""Tests of the retention: old entries are deleted, but not the events that show the holders of prefixes."""

from datetime import timedelta

import asyncpg
import pytest

from lastmile.audit.retention import Purged, purge
from lastmile.db import Database
from tests.support.audited_env import AuditedEnv

ENDED = {"S-3", "S-5"}
YEAR = timedelta(days=365)


async def purged(database: Database, *, batch: int = 1000) -> Purged:
    async with database.platform() as connection:
        return await purge(connection, YEAR, batch=batch)


async def known(owner: asyncpg.Connection, table: str) -> dict[str, int]:
    """Return the number of rows of each subscriber."""
    rows = await owner.fetch(f"SELECT subscriber_ref, count(*) FROM {table} GROUP BY 1")
    return {row[0]: row[1] for row in rows}


@pytest.fixture
async def old(populated_env: AuditedEnv, owner: asyncpg.Connection) -> dict[str, int]:
    """Age all events by 366 days, with recent ends of S-3 and S-5. Return the number of events of each."""
    await owner.execute("UPDATE audit_log SET at = at - interval '366 days'")
    await owner.execute("UPDATE delegation_events SET at = at - interval '366 days'")
    events = await known(owner, "delegation_events")
    ended = await owner.fetch("SELECT subscriber_ref FROM delegations WHERE released_at IS NOT NULL")
    assert {row[0] for row in ended} == ENDED
    return events


async def test_purge_deletes_old_entries_but_no_events_of_live_delegations(
    database: Database, owner: asyncpg.Connection, old: dict[str, int]
) -> None:
    entries = await owner.fetchval("SELECT count(*) FROM audit_log")
    assert await purged(database) == Purged(entries, old["S-3"] + old["S-5"])
    assert await known(owner, "delegation_events") == {ref: n for ref, n in old.items() if ref not in ENDED}
    assert await purged(database) == Purged(0, 0)


async def test_purge_keeps_all_events_of_a_recently_ended_delegation(
    database: Database, owner: asyncpg.Connection, old: dict[str, int]
) -> None:
    await owner.execute("UPDATE delegation_events SET at = at + interval '2 days' WHERE to_state = 'revoked'")
    assert (await purged(database)).events == 0
    assert await known(owner, "delegation_events") == old


async def test_purge_keeps_the_events_of_an_unreleased_delegation(
    database: Database, owner: asyncpg.Connection, old: dict[str, int]
) -> None:
    await owner.execute("UPDATE delegations SET released_at = NULL")
    assert (await purged(database)).events == 0


async def test_purge_deletes_the_password_of_an_ended_order_and_keeps_that_of_another(
    database: Database, owner: asyncpg.Connection, populated_env: AuditedEnv
) -> None:
    await owner.execute(
        "INSERT INTO given_passwords (tenant_id, order_id, key_name, sealed)"
        " VALUES ('acme', 'O-1', 'k1', ''), ('acme', 'not begun', 'k1', '')"
    )
    await purged(database)
    assert await owner.fetchval("SELECT array_agg(order_id) FROM given_passwords") == ["not begun"]


async def test_purge_deletes_old_former_user_names(
    database: Database, owner: asyncpg.Connection, populated_env: AuditedEnv
) -> None:
    await owner.execute(
        "INSERT INTO former_usernames (tenant_id, username, former, logins_until)"
        " VALUES ('acme', 'new', 'old', now() - interval '366 days'), ('acme', 'new', 'recent', now())"
    )
    await purged(database)
    assert await owner.fetchval("SELECT array_agg(former) FROM former_usernames") == ["recent"]


async def test_purge_keeps_a_recent_entry(database: Database, owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE audit_log SET at = at - interval '364 days'")
    assert (await purged(database)).entries == 0


async def test_purge_with_a_small_batch_deletes_the_oldest(
    database: Database, owner: asyncpg.Connection, old: dict[str, int]
) -> None:
    await owner.execute("UPDATE audit_log SET at = at - interval '1 day' WHERE id = (SELECT max(id) FROM audit_log)")
    newest = await owner.fetchval("SELECT max(id) FROM audit_log")
    assert (await purged(database, batch=1)).entries == 1
    assert await owner.fetchval("SELECT max(id) FROM audit_log") < newest


async def test_purge_deletes_an_old_password_that_no_order_took(
    database: Database, owner: asyncpg.Connection, populated_env: AuditedEnv
) -> None:
    await owner.execute(
        """
        INSERT INTO given_passwords (tenant_id, order_id, key_name, sealed, created_at)
        VALUES ('acme', 'O-old', 'k1', '\\x00', now() - interval '366 days'),
               ('acme', 'O-new', 'k1', '\\x00', now() - interval '364 days')
        """
    )
    await purged(database)
    assert [row["order_id"] for row in await owner.fetch("SELECT order_id FROM given_passwords")] == ["O-new"]


async def test_purge_deletes_old_events_by_webhook(database: Database, owner: asyncpg.Connection) -> None:
    await owner.execute(
        "INSERT INTO hook_events (tenant_id, source, event_id, event, state, order_ids, received_at)"
        " VALUES ('acme', 'crm', 'old', 'service.add', 'ordered', '{o}', now() - interval '366 days'),"
        " ('acme', 'crm', 'recent', 'service.add', 'ordered', '{o}', now() - interval '364 days')"
    )
    await purged(database)
    assert await owner.fetchval("SELECT array_agg(event_id) FROM hook_events") == ["recent"]
