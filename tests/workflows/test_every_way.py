"""Every way a run can go: each activity of each operation times each fault, generated (every_way/cases.py), played on
real servers and held against the rules (every_way/rules.py): its outcome, the rows that it left, and the audit.

tests/system/test_every_way_with_netbox.py plays the cases of addresses again, with pools that are kept in NetBox.
"""

from collections.abc import AsyncIterator

import pytest

from lastmile.contract import operations
from tests.workflows.every_way.cases import CASES, Case
from tests.workflows.every_way.rules import OPERATIONS
from tests.workflows.every_way.run_cases import Plays, differences, playing
from tests.workflows.every_way.table import WAY

STEPS = {"provision": operations.PROVISION.steps, "deprovision": operations.DEPROVISION.steps}


@pytest.fixture(scope="module")
async def plays(request: pytest.FixtureRequest, migrated: str, temporal_address: str) -> AsyncIterator[Plays]:
    """The selected cases, all begun: each test waits for its own."""
    async with playing(request, "plays", migrated, temporal_address) as tasks:
        yield tasks


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_rules_know_every_step(operation: str) -> None:
    """What the design says of each step is what the workflow has; a new step needs a rule here."""
    flow, steps = OPERATIONS[operation], STEPS[operation]
    assert [(rule.name, rule.undo and rule.undo.activity, rule.best_effort) for rule in flow.steps] == [
        (step.name, step.undo, step.best_effort) for step in steps
    ]
    assert flow.pivot == next((step.name for step in steps if step.pivot), "close_order")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_every_way(case: Case, plays: Plays, request: pytest.FixtureRequest) -> None:
    seen = await plays[case]
    request.node.user_properties.append((WAY, [str(case), seen.words]))
    assert not (found := differences(seen, case)), "\n".join(found)
