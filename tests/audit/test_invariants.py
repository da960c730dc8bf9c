"""Tests of the invariants: each is broken once by hand, and the audit must find, describe and repair it."""

import re

import asyncpg
import pytest

from lastmile.audit.invariants import INVARIANTS
from lastmile.contract.suspension import SuspensionMode
from tests.audit.address_breaks import ADDRESS_BREAKS
from tests.audit.breaks import Break
from tests.audit.line_breaks import LINE_BREAKS
from tests.support.audited_env import AuditedEnv

BREAKS = [*ADDRESS_BREAKS, *LINE_BREAKS]


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
