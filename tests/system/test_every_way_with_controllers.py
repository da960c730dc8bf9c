"""Every way a run can go (tests/workflows/test_every_way.py), at the steps on devices that have controllers.

At its end each device is at its controller as its row says, or its call waits and brings it there.
"""

import os
from collections.abc import AsyncIterator

import pytest

from tests.workflows.every_way.cases import CONTROLLED_CASES, Case, Fault
from tests.workflows.every_way.controllers import CaseControllers
from tests.workflows.every_way.run_cases import CaseTasks, differences, running_cases
from tests.workflows.every_way.table import WAY

EVERY_CASE = "LASTMILE_EVERY_CASE" in os.environ
OF_DEVICES = {Fault.LOST_MIDWAY, Fault.LOST_AFTER, Fault.CANCEL_DURING, Fault.UNDO_ONCE, Fault.UNDO_LOST}
"""The faults of every step that are played here: where they come, a device may have followed, and no row says so."""

SELECTED = [case for case in CONTROLLED_CASES if EVERY_CASE or case.fault.of_controller or case.fault in OF_DEVICES]


@pytest.fixture(scope="module")
async def controlled_cases(
    request: pytest.FixtureRequest, migrated: str, temporal_address: str
) -> AsyncIterator[CaseTasks]:
    """The selected cases, all begun: each test waits for its own."""
    async with (
        CaseControllers.running() as controllers,
        running_cases(request, "controlled_cases", migrated, temporal_address, controllers=controllers) as tasks,
    ):
        yield tasks


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", SELECTED, ids=str)
async def test_every_way_with_controllers(
    case: Case, controlled_cases: CaseTasks, request: pytest.FixtureRequest
) -> None:
    seen = await controlled_cases[case]
    request.node.user_properties.append((WAY, [str(case), seen.words]))
    assert not (found := differences(seen, case)), "\n".join(found)
