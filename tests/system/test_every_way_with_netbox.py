"""Every way a run can go (tests/workflows/test_every_way.py), with pools in NetBox, and while NetBox is away."""

import os
from collections.abc import AsyncIterator, Collection

import pytest

from tests.workflows.every_way.cases import CASES, SUSPENDED_CASES, Case, Fault
from tests.workflows.every_way.netbox_pools import AWAY, DELEGATED, DIRECT, netbox_pools
from tests.workflows.every_way.run_cases import CaseTasks, differences, running_cases

OF_ADDRESSES = {
    "allocate_ip_address", "activate_ipv6_lifecycle", "revoke_ipv6_lifecycle", "release_ip_address",
    "allocate_replacement", "release_replaced_addresses",
}  # fmt: skip
"""What the kind of the pool makes a difference to; a rollback from elsewhere goes through their undos all the same."""

OF_IPAM = {"allocate_ip_address", "release_ip_address"}
"""What a delegated pool would need NetBox for, if anything."""

OF_THE_SAGA = {
    *(Fault.CANCEL_AFTER, Fault.CANCEL_RACING, Fault.UNDO_CANCELLED, Fault.UNDO_OF_FAILURE_CANCELLED),
    *(Fault.UNDO_SKIPPED, Fault.UNDO_ABANDONED, Fault.TAKEOVER_UNFINISHED),
}
"""The faults at which the step does the same as at another one, and only the saga does not."""

EVERY_CASE = "LASTMILE_EVERY_CASE" in os.environ


def selected(activities: Collection[str]) -> list[Case]:
    """Return the cases of the activities; of changes only the lost workers of a renumbering, unless all are wanted.

    What is the saga's alone is played without NetBox.
    """
    cases = [case for case in CASES if case.activity in activities]
    if EVERY_CASE:
        return [*cases, *(case for case in SUSPENDED_CASES if case.activity in activities)]
    cases = [case for case in cases if case.fault not in OF_THE_SAGA]
    return [
        case
        for case in cases
        if case.operation in ("provision", "deprovision")
        or (case.operation == "renumber" and case.fault.loses_worker and not case.fault.takes_over)
    ]


@pytest.fixture(scope="module", params=[DIRECT, DELEGATED], ids=str)
async def cases_in_netbox(
    request: pytest.FixtureRequest, migrated: str, temporal_address: str
) -> AsyncIterator[CaseTasks]:
    """The selected cases with pools in NetBox, all begun."""
    async with (
        netbox_pools(request.param) as ready,
        running_cases(request, "cases_in_netbox", migrated, temporal_address, ready) as tasks,
    ):
        yield tasks


@pytest.fixture(scope="module")
async def cases_away(request: pytest.FixtureRequest, migrated: str, temporal_address: str) -> AsyncIterator[CaseTasks]:
    """The selected cases with pools in NetBox that is away, all begun."""
    async with (
        netbox_pools(AWAY) as ready,
        running_cases(request, "cases_away", migrated, temporal_address, ready) as tasks,
    ):
        yield tasks


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", selected(OF_ADDRESSES), ids=str)
async def test_every_way_with_a_pool_in_netbox(case: Case, cases_in_netbox: CaseTasks) -> None:
    """The same rules: what they call a slot is the record in NetBox, where that chooses."""
    seen = await cases_in_netbox[case]
    assert not (found := differences(seen, case)), "\n".join(found)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", selected(OF_IPAM), ids=str)
async def test_every_way_while_netbox_is_away(case: Case, cases_away: CaseTasks) -> None:
    """A delegated pool needs none."""
    seen = await cases_away[case]
    assert not (found := differences(seen, case)), "\n".join(found)
