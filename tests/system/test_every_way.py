"""Every way a run can go: each activity of each operation times each fault, generated (every_way/cases.py), played on
real servers and held against the rules (every_way/rules/): its outcome, the rows that it left, and the audit.

`make test-every-way` plays every case. Otherwise what all changes do alike is played for one of them.
test_every_way_with_netbox.py runs the cases of addresses again, with pools that are kept in NetBox.
"""

import os
from collections.abc import AsyncIterator

import pytest

from tests.workflows.every_way.cases import CASES, SUSPENDED_CASES, Case, Fault, Lines
from tests.workflows.every_way.run_cases import CaseTasks, differences, running_cases
from tests.workflows.every_way.table import WAY
from tests.workflows.test_every_way import OF_PREFIXES

EVERY_CASE = "LASTMILE_EVERY_CASE" in os.environ
OF_CHANGES = {
    *(Fault.REFUSED, Fault.USED_UP, Fault.LOST_AFTER, Fault.CANCEL_DURING),
    *(Fault.UNDO_ONCE, Fault.TAKEOVER_UNREPORTED),
}
"""The faults that are played at each step of a change. At the others, the saga does the same whatever the step."""
ONCE_IN_CHANGES = {Fault.CANCEL_BEFORE, Fault.UNDO_RETRIED}
"""The faults that are played at the last step of a change that can be taken back."""


def chosen(case: Case) -> bool:
    """Return whether the case is played: all of provision and deprovision, some of each change, or every case.

    Of an order for a suspended line: one undo of all steps.
    """
    if EVERY_CASE:
        return True
    if case.lines is Lines.SUSPENDED:
        return case.fault is Fault.UNDO_ONCE and case.activity == case.last
    if case.operation in ("provision", "deprovision"):
        return True
    if case.fault in ONCE_IN_CHANGES:
        return case.activity == case.last
    return case.fault in OF_CHANGES and not case.repeats


# The other cases of lines in service are in tests/workflows/test_every_way.py.
SELECTED = [case for case in CASES if case.activity not in OF_PREFIXES and chosen(case)]
SELECTED += filter(chosen, SUSPENDED_CASES)


@pytest.fixture(scope="module")
async def case_tasks(request: pytest.FixtureRequest, migrated: str, temporal_address: str) -> AsyncIterator[CaseTasks]:
    """The selected cases, all begun: each test waits for its own."""
    async with running_cases(request, "case_tasks", migrated, temporal_address) as tasks:
        yield tasks


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", SELECTED, ids=str)
async def test_every_way(case: Case, case_tasks: CaseTasks, request: pytest.FixtureRequest) -> None:
    seen = await case_tasks[case]
    request.node.user_properties.append((WAY, [str(case), seen.words]))
    assert not (found := differences(seen, case)), "\n".join(found)
