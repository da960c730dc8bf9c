"""Tests of the audit's repairs."""

import asyncpg

from lastmile.audit.audit import Violation
from tests.support.audited_env import FREE_SLOT, OF_S1, QUARANTINE, AuditedEnv


async def repaired(env: AuditedEnv, name: str) -> list[Violation]:
    return [violation for violation in await env.repair(await env.audit()) if violation.invariant.name == name]


async def test_repair_of_a_leaked_slot_starts_its_quarantine(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute(f"UPDATE slots SET delegation_id = 999999 WHERE {FREE_SLOT}")
    before = await owner.fetchval("SELECT now()")
    assert len(await repaired(populated_env, "leaked_slot")) == 1
    assert await owner.fetchval(f"SELECT free_at FROM slots WHERE {FREE_SLOT}") >= before + QUARANTINE.unconfirmed


async def test_repair_of_a_leaked_excluded_slot_withholds_it_for_ever(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute(f"UPDATE slots SET delegation_id = 999999 WHERE {FREE_SLOT}")
    await owner.execute(
        "UPDATE pools SET excluded = int8multirange(int8range(slot, slot, '[]'))"
        f" FROM slots WHERE pool_id = pools.id AND {FREE_SLOT}"
    )
    assert len(await repaired(populated_env, "leaked_slot")) == 1
    assert await owner.fetchval(f"SELECT free_at = 'infinity' FROM slots WHERE {FREE_SLOT}")


async def test_repair_of_a_slot_released_meanwhile_changes_nothing(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """The slot's quarantine is longer than that of the repair."""
    await owner.execute(f"UPDATE slots SET delegation_id = 999999 WHERE {FREE_SLOT}")
    found = await populated_env.audit()
    await owner.execute(f"UPDATE slots SET delegation_id = NULL, free_at = 'infinity' WHERE {FREE_SLOT}")
    assert await populated_env.repair(found) == []
    assert await owner.fetchval(f"SELECT free_at = 'infinity' FROM slots WHERE {FREE_SLOT}")


async def test_repair_of_a_delegation_in_the_wrong_slot_fixes_both_slots(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    mine = await owner.fetchval(f"SELECT id FROM delegations WHERE {OF_S1}")
    await owner.execute("UPDATE slots SET delegation_id = NULL WHERE delegation_id = $1", mine)
    await owner.execute(f"UPDATE slots SET delegation_id = $1 WHERE {FREE_SLOT}", mine)
    found = await populated_env.audit()
    assert [violation.invariant.name for violation in found] == ["leaked_slot", "slotless"]
    assert await populated_env.repair(found) == found
    assert await populated_env.audit() == []


async def test_repair_of_a_slot_with_another_holder_changes_nothing(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """The slot of the other holder is missing, so the repair cannot decide between the two."""
    mine = await owner.fetchrow(f"SELECT id, pool_id, slot FROM delegations WHERE {OF_S1}")
    await owner.execute("DROP INDEX delegations_slot")
    await owner.execute(
        "DELETE FROM slots WHERE delegation_id = (SELECT id FROM delegations WHERE subscriber_ref = 'S-2')"
    )
    await owner.execute(
        "UPDATE delegations SET slot = $1, prefix = (SELECT prefix FROM delegations WHERE id = $2)"
        " WHERE subscriber_ref = 'S-2'",
        mine["slot"],
        mine["id"],
    )
    slotless = [violation for violation in await populated_env.audit() if violation.invariant.name == "slotless"]
    assert [violation.words for violation in slotless] == ["held by S-2, but not recorded in its slot"]
    assert await populated_env.repair(slotless) == []


async def test_repair_of_a_foreign_radius_user_changes_nothing(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "INSERT INTO radreply (username, attribute, value) VALUES ('router-7', 'Framed-IP-Address', '192.0.2.7')"
    )
    found = await populated_env.audit()
    assert [violation.subject for violation in found] == ["router-7"]
    assert await populated_env.repair(found) == []
    assert await populated_env.audit() == found


async def test_repair_of_an_unused_address_without_an_account_changes_nothing(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute(f"UPDATE delegations SET state = 'allocated' WHERE {OF_S1}")
    await owner.execute("DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'")
    await owner.execute("DELETE FROM radcheck WHERE username = 'S-1@acme.lastmile'")
    assert await repaired(populated_env, "not_active") == []
    assert await owner.fetchval(f"SELECT state FROM delegations WHERE {OF_S1}") == "allocated"


async def test_repair_that_activates_an_address_writes_an_event(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute(f"UPDATE delegations SET state = 'allocated' WHERE {OF_S1}")
    assert len(await repaired(populated_env, "not_active")) == 1
    event = await owner.fetchrow("SELECT * FROM delegation_events ORDER BY id DESC LIMIT 1")
    assert (event["subscriber_ref"], event["from_state"], event["to_state"]) == ("S-1", "allocated", "active")
    assert event["reason"] == "repaired by the audit"
