"""Tests of the invariants: each is broken once by hand, and the audit must find, describe and repair it."""

import re
from dataclasses import dataclass

import asyncpg
import pytest

from lastmile.audit.invariants import INVARIANTS
from lastmile.contract.suspension import SuspensionMode
from tests.support.audited_env import FREE_SLOT, OF_S1, AuditedEnv


@dataclass(frozen=True)
class Break:
    """A change that breaks an invariant, and the expected finding."""

    invariant: str
    by: str
    subject: str
    words: str
    repaired: bool = False
    also: tuple[str, ...] = ()
    """The other invariants that the same change breaks."""


# A direct pool with a delegation of S-1.
IN_NETBOX = """
INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier,
                   mode, netbox_prefix_id, netbox_release)
    VALUES ('acme', 'there', 'ipv6_framed', '2001:db8:4000::/48', 64, 0, 65536, 0, 'direct', 1, 'deprecate');
INSERT INTO delegations (tenant_id, pool_id, prefix, subscriber_ref, purpose, allocation_key, created_by_order, state)
    SELECT 'acme', id, {prefix}, 'S-1', purpose, 'there', 'O-1', '{state}' FROM pools WHERE name = 'there'
"""

BREAKS = [
    Break(
        "misplaced",
        "UPDATE slots SET slot = slot + 1000 WHERE delegation_id IS NOT NULL; UPDATE delegations SET slot = slot + 1000"
        " WHERE released_at IS NULL",
        r"2001:db8:.*/56",
        r"differs from the prefix of slot 10\d\d of pool home",
    ),
    Break(
        "misplaced",
        IN_NETBOX.format(prefix="'2001:db8:5000::/64'", state="revoking"),
        "2001:db8:5000::/64",
        "is not a /64 of pool there",
    ),
    Break(
        "second_delegation",
        f"""
        DROP INDEX delegations_live;
        WITH second AS (
            INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                                     created_by_order, state)
            SELECT tenant_id, pool_id, 100, '2001:db8:0:6400::/56', subscriber_ref, purpose, 'second',
                   created_by_order, 'revoking' FROM delegations WHERE {OF_S1} RETURNING id)
        UPDATE slots SET delegation_id = second.id FROM second WHERE {FREE_SLOT}
        """,
        "S-1",
        "2 live delegations for ipv6_pd",
    ),
    Break(
        "endless_overlap",
        f"UPDATE delegations SET replaced_by_order = 'O-1' WHERE {OF_S1}",
        r"2001:db8:.*/56",
        "replaced for S-1 by order O-1, which ended completed without releasing it",
    ),
    Break(
        "leaked_slot",
        f"UPDATE slots SET delegation_id = 999999 WHERE {FREE_SLOT}",
        "2001:db8:0:6400::/56",
        "occupied, but no delegation holds it",
        repaired=True,
    ),
    Break(
        "slotless",
        f"UPDATE slots SET delegation_id = NULL WHERE delegation_id = (SELECT id FROM delegations WHERE {OF_S1})",
        r"2001:db8:.*/56",
        "held by S-1, but not recorded in its slot",
        repaired=True,
    ),
    Break(
        "miscounted",
        "DELETE FROM delegation_counts WHERE number > 0 AND state = 'active' AND ctid = ("
        "SELECT ctid FROM delegation_counts WHERE number > 0 AND state = 'active' LIMIT 1)",
        "acme",
        "pool home has 3 active delegations, but the counter says 2",
        repaired=True,
    ),
    Break(
        "overdue_in_netbox",
        "INSERT INTO netbox_removals (tenant_id, allocation_key, pool_id, prefix, due_at)"
        " SELECT 'acme', 'gone', id, '2001:db8:0:6400::/56', now() - interval '2 days' FROM pools WHERE name = 'home'",
        "2001:db8:0:6400::/56",
        "released, and due for removal from pool home in NetBox since .* UTC",
    ),
    Break(
        "not_in_radius",
        "DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'",
        r"2001:db8:.*/56",
        "active for S-1, but RADIUS does not assign it",
        repaired=True,
    ),
    Break(
        "only_in_radius",
        "INSERT INTO radreply (username, attribute, op, value)"
        " VALUES ('S-1@acme.lastmile', 'Delegated-IPv6-Prefix', ':=', '2001:db8:0:6400::/56')",
        "S-1@acme.lastmile",
        "Delegated-IPv6-Prefix 2001:db8:0:6400::/56 is assigned without an active or suspended delegation",
        repaired=True,
    ),
    Break(
        "vrf_not_in_radius",
        "UPDATE pools SET vrf = 'red' WHERE name = 'home'; INSERT INTO radreply (username, attribute, op, value)"
        " SELECT username, 'Cisco-AVPair', ':=', 'ip:vrf-id=red' FROM radreply"
        " WHERE attribute = 'Delegated-IPv6-Prefix' AND username <> 'S-1@acme.lastmile'",
        "S-1@acme.lastmile",
        "S-1 is in VRF red, but RADIUS does not assign that VRF",
        repaired=True,
    ),
    Break(
        "vrf_only_in_radius",
        "INSERT INTO radreply (username, attribute, op, value)"
        " VALUES ('S-1@acme.lastmile', 'Cisco-AVPair', ':=', 'ip:vrf-id=red'),"
        " ('S-1@acme.lastmile', 'Cisco-AVPair', ':=', 'ip:addr-pool=x')",
        "S-1@acme.lastmile",
        "Cisco-AVPair ip:vrf-id=red is assigned, but no address is active in that VRF",
        repaired=True,
    ),
    Break(
        "left_behind",
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'O-9', 'provision', 'creates', 'S-9', 'd', 'r1', 'partly_rolled_back');"
        "INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C-9', 'Grace', 'O-9')",
        "O-9",
        "was rolled back, but left customer C-9",
    ),
    Break(
        "left_suspended",
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'D-1', 'deprovision', 'ends', 'S-1', 'd', 'r1', 'rolled_back');"
        "UPDATE billing_services SET status = 'suspended', suspended_by_order = 'D-1' WHERE created_by_order = 'O-1'",
        "D-1",
        "was rolled back, but left billing of S-1 suspended",
    ),
    Break(
        "left_suspended",
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'D-1', 'deprovision', 'ends', 'S-1', 'd', 'r1', 'rolled_back');"
        "UPDATE devices SET in_service = false, updated_by_order = 'D-1' WHERE subscriber_ref = 'S-1' AND kind = 'onu'",
        "D-1",
        "was rolled back, but left the ONU of S-1 out of service",
    ),
    Break(
        "incomplete",
        "DELETE FROM billing_services WHERE created_by_order = 'O-1';"
        "DELETE FROM network_profiles WHERE created_by_order = 'O-1'",
        "S-1",
        "provisioned by order O-1, but has no network profile, no billing service",
    ),
    Break(
        "taken_away",
        f"""
        UPDATE slots SET delegation_id = NULL WHERE delegation_id = (SELECT id FROM delegations WHERE {OF_S1});
        UPDATE delegations SET state = 'revoked', released_at = now() WHERE {OF_S1};
        DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'
        """,
        "S-1",
        r"order O-1 assigned 2001:db8:.*/56, but the subscriber does not hold it",
    ),
    Break(
        "not_terminated",
        "INSERT INTO radcheck (username, attribute, op, value)"
        " VALUES ('S-3@acme.lastmile', 'Cleartext-Password', ':=', 'p')",
        "S-3",
        "deprovisioned by order D-3, but still has a RADIUS account",
    ),
    Break(
        "not_terminated",
        "INSERT INTO network_profiles (tenant_id, subscriber_id, created_by_order, connection_type, option82_policy)"
        " SELECT tenant_id, id, 'O-3', 'ftth', 'log' FROM subscribers WHERE ref = 'S-3'",
        "S-3",
        "deprovisioned by order D-3, but still has a network profile",
    ),
    Break(
        "not_active",
        f"UPDATE delegations SET state = 'allocated' WHERE {OF_S1};"
        "DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'",
        r"2001:db8:.*/56",
        "allocated to S-1 by order O-1, which ended completed without activating the address",
        repaired=True,
    ),
    Break(
        "unfinished",
        "UPDATE orders SET status = 'rolling_back', created_at = '2026-05-03 14:00Z' WHERE order_id = 'O-1'",
        "O-1",
        "provision of S-1 has been rolling back since 2026-05-03 14:00 UTC",
    ),
    Break(
        "not_allocated",
        IN_NETBOX.format(prefix="NULL", state="failed"),
        "S-1",
        r"waits for a prefix for ipv6_framed \(failed\) since order O-1, which ended completed",
    ),
    Break(
        "behind_in_netbox",
        "INSERT INTO netbox_records (pool_id, slot, tenant_id, since)"
        " SELECT id, 0, tenant_id, '2026-05-03 14:00Z' FROM pools WHERE name = 'home'",
        r"2001:db8:.*/56",
        "not recorded in NetBox since 2026-05-03 14:00 UTC",
    ),
    Break(
        "foreign_prefix_in_block",
        "INSERT INTO netbox_foreign_prefixes (pool_id, netbox_id, tenant_id, prefix, description, first_slot, end_slot)"
        " SELECT id, 1, tenant_id, '2001:db8:ff::/56', 'lab', 9, 10 FROM pools WHERE name = 'home'",
        "2001:db8:ff::/56",
        r"a foreign prefix in NetBox \(lab\), inside a block of pool home, and withheld from subscribers",
    ),
    Break(
        "not_released",
        "UPDATE delegations SET state = 'revoked' WHERE subscriber_ref = 'S-3' AND released_at IS NOT NULL;"
        "UPDATE delegations SET released_at = NULL WHERE subscriber_ref = 'S-3';"
        "UPDATE slots SET delegation_id = (SELECT id FROM delegations WHERE subscriber_ref = 'S-3'),"
        " last_holder = NULL WHERE last_holder LIKE '%/S-3/%'",
        r"2001:db8:.*/56",
        "revoked from S-3, but not released: no other subscriber can get it",
        also=("not_terminated",),
    ),
    Break(
        "blocked_in_service",
        "INSERT INTO radcheck (username, attribute, op, value, created_by_order)"
        " VALUES ('S-1@acme.lastmile', 'Auth-Type', ':=', 'Reject', 'D-1');"
        "UPDATE billing_services SET status = 'suspended' WHERE created_by_order = 'O-1'",
        "S-1",
        "provisioned by order O-1, but RADIUS refuses its logins: order D-1 has blocked the account",
    ),
    Break(
        "billed_without_line",
        "DELETE FROM radcheck WHERE username = 'S-1@acme.lastmile'",
        "S-1",
        "is charged for plan fiber, but has no RADIUS account",
        also=("incomplete",),
    ),
    Break(
        "billed_without_line",
        "INSERT INTO radcheck (username, attribute, op, value, created_by_order)"
        " VALUES ('S-1@acme.lastmile', 'Auth-Type', ':=', 'Reject', 'D-1')",
        "S-1",
        "is charged for plan fiber, but RADIUS refuses its logins",
        also=("blocked_in_service",),
    ),
    Break(
        "billed_without_line",
        "UPDATE billing_services SET status = 'active', ended_at = NULL WHERE created_by_order = 'O-3'",
        "S-3",
        "is charged for plan fiber, but was deprovisioned",
    ),
    Break(
        "confirmed_too_early",
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress)"
        " VALUES ('4F0C', '1', 'S-3@acme.lastmile', '192.0.2.1')",
        r"2001:db8:.*/56",
        "S-3 has released it, and the end of its sessions was confirmed, but a login or a session has appeared since",
        repaired=True,
    ),
    Break(
        "other_device",
        "UPDATE devices SET identity = 'ACME0000FFFF' WHERE subscriber_ref = 'S-1' AND kind = 'onu'",
        "S-1",
        r"ONU ACME0000FFFF is in service, but the network profile has ACME0000000\d",
    ),
    Break(
        "half_changed",
        "INSERT INTO previous_values (tenant_id, created_by_order, step, subscriber_ref, value)"
        " VALUES ('acme', 'O-1', 'update_customer', 'S-1', '{}')",
        "S-1",
        r"order O-1 \(provision\) ended completed after its step update_customer",
    ),
    Break(
        "other_plan",
        "UPDATE billing_services SET plan = 'basic' WHERE created_by_order = 'O-1'",
        "S-1",
        "is charged for plan basic, but logs in with plan fiber",
    ),
    Break(
        "other_plan",
        "UPDATE radusergroup SET groupname = 'basic-50000-10000@acme.lastmile' WHERE username = 'S-1@acme.lastmile'",
        "S-1",
        "is charged for plan fiber, but logs in with plan basic",
    ),
    Break(
        "other_plan",
        "UPDATE radusergroup SET groupname = 'fiber-of-staff' WHERE username = 'S-1@acme.lastmile'",
        "S-1",
        "is charged for plan fiber, but logs in with no plan",
    ),
    *(
        Break("half_suspended", by, "S-1", words)
        for by, words in (
            (
                "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order)"
                " VALUES ('acme', 'S-1', 'block', 'non-payment', 'X-1')",
                r"is suspended \(block\) by order X-1, but is charged, has an active address, "
                "logs in as a line in service",
            ),
            (
                "UPDATE radusergroup SET groupname = 'fiber-500000-250000:walled_garden@acme.lastmile'"
                " WHERE username = 'S-1@acme.lastmile'",
                r"is in service, but logs in as suspended \(walled garden\)",
            ),
            (
                f"UPDATE delegations SET state = 'suspended' WHERE {OF_S1}",
                "is in service, but has a suspended address",
            ),
            (
                "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
                " VALUES ('acme', 'X-1', 'suspend', 'changes', 'S-1', 'd', 'r1', 'rolled_back');"
                "UPDATE billing_services SET status = 'suspended', suspended_by_order = 'X-1'"
                " WHERE created_by_order = 'O-1'",
                "is in service, but is not charged",
            ),
        )
    ),
    Break(
        "overdue_suspension",
        "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order, resume_at)"
        " VALUES ('acme', 'S-1', 'slow', 'non-payment', 'X-1', now() - interval '2 hours')",
        "S-1",
        r"was to resume on \d{4}-\d\d-\d\d \d\d:\d\d UTC, but is still suspended by order X-1",
        also=("half_suspended",),
    ),
    Break(
        "unrestricted_session",
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, recorded_at)"
        " VALUES ('4F0C', '1', 'S-1@acme.lastmile', '192.0.2.1', now() - interval '3 hours');"
        "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order, created_at)"
        " VALUES ('acme', 'S-1', 'slow', 'non-payment', 'X-1', now() - interval '2 hours')",
        "S-1",
        r"is suspended \(slow\) by order X-1, but session 4F0C on NAS 192.0.2.1 is open, and no NAS has confirmed "
        "that it was told",
        also=("half_suspended",),
    ),
    Break(
        "terminated_order",
        "UPDATE orders SET status = 'abandoned' WHERE order_id = 'O-1'",
        "O-1",
        "provision of S-1 is abandoned, and no later order has completed its work",
    ),
]


async def test_check_of_records_made_by_orders_finds_no_violation(populated_env: AuditedEnv) -> None:
    assert await populated_env.audit() == []
    await populated_env.provision(3, order="O-33")
    assert await populated_env.audit() == []


@pytest.mark.parametrize("mode", SuspensionMode)
async def test_check_of_a_suspended_line_finds_no_violation(populated_env: AuditedEnv, mode: SuspensionMode) -> None:
    await populated_env.suspend(1, mode)
    assert await populated_env.audit() == []
    await populated_env.resume(1)
    assert await populated_env.audit() == []


def test_breaks_cover_every_invariant() -> None:
    assert {one.invariant for one in BREAKS} | {"overlap"} == {invariant.name for invariant in INVARIANTS}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.invariant)
async def test_check_with_one_broken_invariant_finds_and_repairs_it(
    populated_env: AuditedEnv, owner: asyncpg.Connection, broken: Break
) -> None:
    await owner.execute(broken.by)

    found = await populated_env.audit()

    assert {violation.invariant.name for violation in found} == {broken.invariant, *broken.also}
    violation = next(
        v for v in found if v.invariant.name == broken.invariant and re.fullmatch(broken.subject, v.subject)
    )
    assert re.fullmatch(broken.words, violation.words)
    assert violation.tenant == "acme"
    assert violation.invariant.remedy
    assert await populated_env.audit("acme") == found
    assert await populated_env.audit("other") == []

    repaired = await populated_env.repair(found)

    assert repaired == (found if broken.repaired else [])
    assert await populated_env.audit() == ([] if broken.repaired else found)
    assert await populated_env.repair(found) == []


async def test_check_of_overlapping_delegations_names_both_holders(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """A second pool overlaps the first. Only a manual change of the database can create it."""
    await owner.execute(
        """
        ALTER TABLE pools DROP CONSTRAINT pools_no_overlap;
        INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
        SELECT 'acme', 'again', purpose, prefix, delegated_length, first_slot, end_slot, first_slot
        FROM pools WHERE name = 'home'
        """
    )
    await populated_env.provision(6, pool="again")

    (violation,) = await populated_env.audit()

    assert violation.invariant.name == "overlap"
    assert violation.subject == await populated_env.prefix(6) == await populated_env.prefix(1)
    assert violation.words == f"held by S-6, and overlaps {await populated_env.prefix(1)} of S-1, tenant acme"
    assert await populated_env.repair([violation]) == []

    await owner.execute("UPDATE pools SET vrf = 'elsewhere' WHERE name = 'again'")
    await populated_env.repair(await populated_env.audit())  # RADIUS names the VRF
    assert await populated_env.audit() == []


async def test_check_of_a_prefix_around_others_finds_each_overlap(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """The check must also find overlaps with prefixes that do not follow the first one directly."""
    await owner.execute(
        """
        ALTER TABLE pools DROP CONSTRAINT pools_no_overlap;
        INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
        VALUES ('acme', 'whole', 'ipv6_pd', '2001:db8::/40', 48, 0, 256, 0)
        """
    )
    await owner.execute(
        """
        WITH whole AS (
            INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                                     created_by_order, state)
            SELECT 'acme', id, 0, '2001:db8::/48', 'S-7', 'ipv6_pd', 'k', 'O-7', 'suspended'
            FROM pools WHERE name = 'whole' RETURNING *)
        INSERT INTO slots (pool_id, slot, tenant_id, delegation_id) SELECT pool_id, 0, 'acme', id FROM whole
        """
    )
    reached = {violation.subject for violation in await populated_env.audit() if violation.invariant.name == "overlap"}
    held = {str(row[0]) for row in await owner.fetch("SELECT prefix::text FROM delegations WHERE released_at IS NULL")}
    # Each prefix except the first overlaps an earlier one.
    assert reached == held - {await populated_env.prefix(1)}


async def test_check_after_a_later_order_omits_the_leftovers(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """Compensations were skipped. The next order takes the records over, and the one after removes them."""
    await populated_env.provision(6, ends="rolled_back")
    left = {v.key for v in await populated_env.audit() if v.invariant.name == "left_behind"}
    assert {"subscriber S-6", "RADIUS account S-6@acme.lastmile", f"prefix {await populated_env.prefix(6)}"} <= left
    await populated_env.provision(6, order="O-66")
    assert await populated_env.audit() == []
    await populated_env.deprovision(6)
    assert await populated_env.audit() == []


async def test_check_after_the_next_order_omits_the_terminated_order(populated_env: AuditedEnv) -> None:
    await populated_env.deprovision(2, ends="abandoned")
    assert {violation.invariant.name for violation in await populated_env.audit()} == {"terminated_order"}
    await populated_env.provision(2, order="O-22", ends=None)
    assert await populated_env.audit() == []
