"""Tests of the history of a subscriber and of the holders of a prefix."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import asyncpg
import pytest

from lastmile.audit.history import HistoryEntry, Tenure, find_delegations, read_history, read_tenures
from lastmile.services.history import find_holders
from tests.support.audited_env import AuditedEnv

MAY = datetime(2026, 5, 3, 14, tzinfo=UTC)


async def happened(env: AuditedEnv, nth: int = 1, since: datetime | None = None) -> list[HistoryEntry]:
    async with env.database.platform() as connection:
        return await read_history(connection, "acme", f"S-{nth}", since)


async def who(env: AuditedEnv, prefix: str, at: datetime | None = None) -> list[Tenure]:
    asked = ip_network(prefix) if "/" in prefix else ip_address(prefix)
    async with env.database.platform() as connection:
        return await read_tenures(connection, asked, await find_delegations(connection, asked), at)


async def names(env: AuditedEnv, prefix: str, at: datetime | None = None) -> list[str]:
    return [tenure.subscriber_ref for tenure in await who(env, prefix, at)]


async def test_read_history_of_a_line_has_every_change_in_order(env: AuditedEnv, owner: asyncpg.Connection) -> None:
    await env.provision()
    await env.provision(2)
    await env.deprovision()

    history = await happened(env)

    assert [entry.at for entry in history] == sorted(entry.at for entry in history)
    assert {entry.actor for entry in history} == {"crm"}
    assert [(entry.record, entry.action) for entry in history if entry.order_id == "O-1"] == [
        ("customers", "created"),
        ("subscribers", "created"),
        ("network_profiles", "created"),
        ("radcheck", "created"),
        ("radusergroup", "created"),
        ("delegations", "created"),
        *sorted([("delegations", "changed"), ("radreply", "created")], key=lambda entry: position(history, entry)),
        ("devices", "created"),
        ("devices", "created"),
        ("billing_services", "created"),
    ]
    down = [(entry.record, entry.action) for entry in history if entry.order_id == "D-1"]
    assert down[0] == ("billing_services", "changed")
    assert set(down[-2:]) == {("billing_services", "changed"), ("subscribers", "changed")}
    for record in ("radreply", "radcheck", "radusergroup", "network_profiles"):
        assert (record, "removed") in down
    states = [entry.after["state"] for entry in history if entry.record == "delegations" and entry.after]
    assert states == ["allocated", "active", "revoking", "revoked"]
    password = await owner.fetchval("SELECT value FROM radcheck WHERE username = 'S-2@acme.lastmile'")
    assert password not in str(await happened(env, 2))

    middle = history[8].at
    assert await happened(env, since=middle) == [entry for entry in history if entry.at >= middle]


def position(history: list[HistoryEntry], wanted: tuple[str, str]) -> int:
    """Sort the entries of one transaction, whose order does not matter."""
    return next(
        i for i, entry in enumerate(history) if (entry.record, entry.action) == wanted and entry.order_id == "O-1"
    )


async def test_read_history_contains_the_repairs_of_the_audit(env: AuditedEnv, owner: asyncpg.Connection) -> None:
    await env.provision()
    await owner.execute("DELETE FROM radreply")
    await env.repair(await env.audit())
    *_, by_hand, repaired = await happened(env)
    assert (by_hand.record, by_hand.action, by_hand.order_id) == ("radreply", "removed", None)
    assert (repaired.record, repaired.action, repaired.actor) == ("radreply", "created", "the auditor")


async def shift(owner: asyncpg.Connection, order: str, to: datetime) -> None:
    """Move the delegation events of this order to the time `to`."""
    await owner.execute("UPDATE delegation_events SET at = $2 WHERE order_id = $1", order, to)


async def test_read_tenures_at_a_time_returns_the_holder_of_that_time(
    env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """S-1 held the prefix twice, and released it each time. Then S-2 got it."""
    day, hour = timedelta(days=1), timedelta(hours=1)
    await env.provision(1)
    prefix = await env.prefix(1)
    await env.deprovision(1)
    await env.provision(1, order="O-11")
    assert await env.prefix(1) == prefix
    await env.deprovision(1, order="D-11")
    # The other prefixes are occupied, and the quarantine is over: S-2 gets this prefix.
    await owner.execute("UPDATE slots SET last_holder = NULL, free_at = '-infinity' WHERE last_holder IS NOT NULL")
    await owner.execute("UPDATE slots SET free_at = 'infinity' WHERE slot > 0")
    await env.provision(2)
    assert await env.prefix(2) == prefix
    await shift(owner, "O-1", MAY - 30 * day)
    await shift(owner, "D-1", MAY - 20 * day)
    await shift(owner, "O-11", MAY - hour)
    await shift(owner, "D-11", MAY + hour)
    await shift(owner, "O-2", MAY + 30 * day)
    # The cleanup deletes delegations long before their events.
    await owner.execute("UPDATE slots SET delegation_id = NULL")
    await owner.execute("DELETE FROM delegations")

    assert await names(env, prefix) == ["S-1", "S-1", "S-2"]
    assert await names(env, prefix, MAY - 31 * day) == []
    assert await names(env, prefix, MAY - 30 * day) == ["S-1"]
    assert await names(env, prefix, MAY - 20 * day) == []
    assert await names(env, prefix, MAY + 2 * hour) == []
    assert await names(env, prefix, MAY + 31 * day) == ["S-2"]
    (then,) = await who(env, prefix, MAY)
    assert then == Tenure("acme", "S-1", prefix, "", MAY - hour, MAY + hour, "O-11", "crm")

    inside = ip_network(prefix).network_address + 77
    assert await names(env, str(inside), MAY) == ["S-1"]
    assert await names(env, "2001:db8::/40", MAY) == ["S-1"]
    assert await names(env, "2001:db8:ffff::/48") == []
    assert (await who(env, prefix))[-1].until is None


@pytest.mark.parametrize("tenant", [None, "acme"])
async def test_find_holders_uses_the_indexes(env: AuditedEnv, owner: asyncpg.Connection, tenant: str | None) -> None:
    await owner.execute(
        """
        INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref, from_state, to_state,
                                       order_id, reason)
        SELECT 'acme', n, set_masklen('10.0.0.0'::inet + n, 32), 'S-' || n, 'pending', 'allocated', 'O-' || n, 'ordered'
        FROM generate_series(1, 20000) n
        """
    )
    await owner.execute("ANALYZE delegation_events")
    used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'delegation_events_by_prefix'"
    scanned = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'delegation_events'"
    before = await owner.fetchval(used), await owner.fetchval(scanned)

    tenures = await find_holders(env.database, ip_address("10.0.48.57"), tenant=tenant)
    assert [tenure.subscriber_ref for tenure in tenures] == ["S-12345"]
    async with env.database.platform() as connection:  # the connection that the queries used
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("SELECT pg_stat_force_next_flush()")

    await owner.execute("SELECT pg_stat_clear_snapshot()")
    assert await owner.fetchval(used) > before[0]
    assert await owner.fetchval(scanned) == before[1]


async def test_find_holders_of_a_tenant_omits_holders_of_other_tenants(env: AuditedEnv) -> None:
    await env.provision()
    (tenure,) = await find_holders(env.database, ip_network("2001:db8::/32"), tenant="acme")
    assert tenure.subscriber_ref == "S-1"
    assert await find_holders(env.database, ip_network("2001:db8::/32"), tenant="other") == []
