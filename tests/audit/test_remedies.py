"""Tests of the remedies: a finding is gone once an operator has done what its remedy says.

The repairs of `--repair` are tested in `test_invariants`, and what workers do by themselves in `tests/netbox`.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import pytest

from lastmile.audit.invariants import INVARIANTS
from lastmile.services.devices import drop_device_call, list_devices
from tests.audit.breaks import Break
from tests.audit.test_invariants import BREAKS
from tests.support.audited_env import OF_S1, AuditedEnv

Cure = Callable[[AuditedEnv, int], Awaitable[object]]


async def provision(env: AuditedEnv, nth: int) -> None:
    """Provision with a new order of the same content."""
    await env.provision(nth, order=f"O-{nth}-new")


async def deprovision(env: AuditedEnv, nth: int) -> None:
    """Deprovision with a new order."""
    await env.deprovision(nth, order=f"D-{nth}-new")


async def deprovision_and_provision(env: AuditedEnv, nth: int) -> None:
    """Deprovision, and provision again."""
    await deprovision(env, nth)
    await provision(env, nth)


async def replace_device(env: AuditedEnv, nth: int) -> None:
    """Replace the device by the one that the line has."""
    await env.replace_device(nth, onu_serial=f"ACME{nth:08X}")


async def change_plan(env: AuditedEnv, nth: int) -> None:
    """Order the plan that the line is to have."""
    await env.change_plan(nth)


async def update_customer(env: AuditedEnv, nth: int) -> None:
    """Send the change again, with a new order."""
    await env.update_customer(nth, name="Ada Lovelace")


async def resume(env: AuditedEnv, nth: int) -> None:
    """Resume the line, also where the suspension was half done."""
    await env.resume(nth)


async def suspend_and_resume(env: AuditedEnv, nth: int) -> None:
    """Suspend the line in service, and resume it."""
    await env.suspend(nth)
    await env.resume(nth)


async def drop_device_calls(env: AuditedEnv, nth: int) -> None:
    """End the calls of the subscriber that wait."""
    for device in await list_devices(env.database, "acme", f"S-{nth}"):
        if device.since:
            given = {"by": "ada", "why": "scrapped", "actor": "ada"}
            await drop_device_call(env.database, "acme", f"S-{nth}", device.identity, **given)


CURES: dict[str, tuple[Cure, ...]] = {
    "second_delegation": (deprovision_and_provision,),
    "endless_overlap": (deprovision_and_provision,),
    "left_behind": (provision, deprovision),
    "left_suspended": (provision, deprovision),
    "half_changed": (update_customer, deprovision),
    "other_device": (replace_device,),
    "other_plan": (change_plan, deprovision_and_provision),
    "incomplete": (deprovision_and_provision,),
    "taken_away": (deprovision_and_provision,),
    "not_terminated": (deprovision,),
    "unfinished": (provision, deprovision),
    "not_released": (deprovision,),
    "blocked_in_service": (provision, deprovision),
    "billed_without_line": (provision, deprovision),
    "terminated_order": (provision, deprovision),
    "half_suspended": (resume, suspend_and_resume),
    "overdue_suspension": (resume,),
    "unrestricted_session": (resume,),
    "contradicted_call": (drop_device_calls,),
    "stale_device_call": (drop_device_calls,),
}
"""The actions that the remedy of each invariant names."""


SETTLED_ELSEWHERE = {
    # A test below.
    "overlap",
    # A deprovision, of a pool in NetBox: tests/netbox/direct/test_refusals.py.
    "not_allocated",
    # An operator undoes a manual change of a pool.
    "misplaced",
    # Workers do it by themselves once NetBox answers, or an operator does it in NetBox: tests/netbox.
    "overdue_in_netbox", "behind_in_netbox", "foreign_prefix_in_block",
}  # fmt: skip
"""The invariants whose remedy is no order for the subscriber of the finding, or is tested elsewhere."""


def test_every_invariant_has_a_tested_remedy() -> None:
    repaired = {invariant.name for invariant in INVARIANTS if invariant.repair is not None}
    assert {invariant.name for invariant in INVARIANTS} == {*CURES, *SETTLED_ELSEWHERE} | repaired
    assert not repaired & {*CURES, *SETTLED_ELSEWHERE}
    assert not SETTLED_ELSEWHERE & {*CURES}


@dataclass(frozen=True)
class Case:
    """One finding, and one alternative of its remedy."""

    broken: Break
    cure: Cure

    @property
    def nth(self) -> int:
        """The subscriber of the finding."""
        found = re.search(r"[SO]-([39])\b", self.broken.by)
        return int(found[1]) if found else 1

    def __str__(self) -> str:
        return f"{self.broken.invariant}-{self.cure.__name__}"


CASES = [
    Case(broken, cure)
    for broken in BREAKS
    for cure in CURES.get(broken.invariant, ())
    if cure is not provision or "was deprovisioned" not in broken.words  # there is no line to keep
    if broken.invariant != "other_plan" or ("no plan" in broken.words) == (cure is deprovision_and_provision)
    if cure not in (resume, suspend_and_resume) or ("by order X-1" in broken.words) == (cure is resume)
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_remedy_of_a_finding_removes_it(populated_env: AuditedEnv, owner: asyncpg.Connection, case: Case) -> None:
    await owner.execute(case.broken.by)
    assert case.broken.invariant in {violation.invariant.name for violation in await populated_env.audit()}

    await case.cure(populated_env, case.nth)

    assert await populated_env.audit() == []


async def test_remedy_of_an_unused_address_without_an_account_removes_it(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute(f"UPDATE delegations SET state = 'allocated' WHERE {OF_S1}")
    await owner.execute("DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'")
    await owner.execute("DELETE FROM radcheck WHERE username = 'S-1@acme.lastmile'")
    assert await populated_env.repair(await populated_env.audit()) == []
    await deprovision(populated_env, 1)
    assert await populated_env.audit() == []


async def test_remedy_of_an_order_that_was_lost_before_its_first_record_removes_it(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """Nothing of the subscriber exists, and the order that was to create it never ends."""
    await owner.execute(
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'O-9', 'provision', 'creates', 'S-9', 'd', 'r1', 'abandoned')"
    )
    assert [violation.invariant.name for violation in await populated_env.audit()] == ["terminated_order"]
    await deprovision(populated_env, 9)
    assert await populated_env.audit() == []


async def test_remedy_of_a_prefix_whose_subscriber_was_rolled_back_removes_it(
    populated_env: AuditedEnv, owner: asyncpg.Connection
) -> None:
    """The undo of the allocation was skipped, and every other undo has run."""
    await populated_env.provision(6, ends="partly_rolled_back")
    await owner.execute(
        """
        DELETE FROM billing_services WHERE created_by_order = 'O-6';
        DELETE FROM network_profiles WHERE created_by_order = 'O-6';
        DELETE FROM subscribers WHERE created_by_order = 'O-6';
        DELETE FROM devices WHERE created_by_order = 'O-6';
        DELETE FROM radcheck WHERE username = 'S-6@acme.lastmile';
        DELETE FROM radreply WHERE username = 'S-6@acme.lastmile';
        UPDATE delegations SET state = 'allocated' WHERE created_by_order = 'O-6'
        """
    )
    assert [violation.invariant.name for violation in await populated_env.audit()] == ["left_behind"]
    await deprovision(populated_env, 6)
    assert await populated_env.audit() == []


async def test_remedy_of_an_overlap_removes_it(populated_env: AuditedEnv, owner: asyncpg.Connection) -> None:
    """Two pools overlap. A returning subscriber gets its former prefix, unless the pool is closed."""
    await owner.execute(
        """
        ALTER TABLE pools DROP CONSTRAINT pools_no_overlap;
        INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
        SELECT 'acme', 'again', purpose, prefix, delegated_length, first_slot, end_slot, first_slot
        FROM pools WHERE name = 'home'
        """
    )
    await populated_env.provision(6, pool="again")
    assert [violation.invariant.name for violation in await populated_env.audit()] == ["overlap"]
    await owner.execute("UPDATE pools SET closed_at = now() WHERE name = 'again'")
    await deprovision_and_provision(populated_env, 6)
    assert await populated_env.audit() == []
