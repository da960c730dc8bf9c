"""Every way a run can go, of the steps that assign a prefix and that take it back.

tests/system/test_every_way.py has the other steps, in the same way.
"""

from collections.abc import AsyncIterator

import pytest

from lastmile.contract.operations import OPERATIONS as ORDER_TYPES
from lastmile.contract.orders import Operation
from tests.workflows.every_way.cases import CASES, Case
from tests.workflows.every_way.rules import OPERATIONS
from tests.workflows.every_way.run_cases import CaseTasks, differences, running_cases

OF_PREFIXES = {"allocate_ip_address", "revoke_ipv6_lifecycle"}
"""The steps whose cases are played here."""


@pytest.fixture(scope="module")
async def prefix_cases(
    request: pytest.FixtureRequest, migrated: str, temporal_address: str
) -> AsyncIterator[CaseTasks]:
    """The selected cases, all begun: each test waits for its own."""
    async with running_cases(request, "prefix_cases", migrated, temporal_address) as tasks:
        yield tasks


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_rules_know_every_step(operation: str) -> None:
    """What the design says of each step is what the workflow has; a new step needs a rule here."""
    flow, steps = OPERATIONS[operation], ORDER_TYPES[Operation(operation)].steps
    assert [(rule.name, rule.undo and rule.undo.activity, rule.best_effort) for rule in flow.steps] == [
        (step.name, step.undo, step.best_effort) for step in steps
    ]
    assert flow.pivot == next((step.name for step in steps if step.pivot), "")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", [case for case in CASES if case.activity in OF_PREFIXES], ids=str)
async def test_every_way(case: Case, prefix_cases: CaseTasks) -> None:
    seen = await prefix_cases[case]
    assert not (found := differences(seen, case)), "\n".join(found)
