"""The marks of prefixes that an order replaces."""

from ipam.lifecycle import State
from lastmile.contract.addressing import Purpose
from tests.support.allocation_env import PD, AllocationEnv


async def test_cancel_of_two_marks_of_one_purpose_leaves_one_unmarked_prefix(env: AllocationEnv) -> None:
    """Orders that were lost one after the other left several prefixes of one line."""
    await env.pool("2001:db8::/48")
    for order in ("o1", "o2"):
        delegation = (await env.allocate("S-1", order, PD)).delegation
        await env.move(delegation, State.ACTIVE)
        await env.begin_replacement("S-1", "o9", Purpose.IPV6_PD, tenant="acme")

    assert await env.cancel_replacement("S-1", "o9", tenant="acme")

    held = await env.held_by("S-1")
    assert [(one.created_by_order, one.replaced_by_order) for one in held] == [("o1", "o9"), ("o2", None)]
