"""Play the cases of the tests that are selected, side by side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.conftest import copy_of
from tests.workflows.every_way.cases import Case
from tests.workflows.every_way.controllers import CaseControllers
from tests.workflows.every_way.environment import case_environment
from tests.workflows.every_way.netbox_pools import NetBoxPools
from tests.workflows.every_way.run_case import Seen, run_case
from workflows import step_activity

__all__ = ["CaseTasks", "differences", "running_cases"]

AT_ONCE = 16
"""How many cases are played side by side; most of them wait for a time-out or the audit most of the time."""
PATIENCE_SECONDS = 90
ATTEMPTS = 8
"""Of a step, until its retries are used up: more of them show nothing else."""

CaseTasks = dict[Case, asyncio.Task[Seen]]


@asynccontextmanager
async def running_cases(
    request: pytest.FixtureRequest,
    fixture: str,
    migrated: str,
    temporal_address: str,
    pools: NetBoxPools | None = None,
    controllers: CaseControllers | None = None,
) -> AsyncIterator[CaseTasks]:
    """Start the cases of all tests that use the fixture, in one environment. Each test waits for its own case."""
    params = [item.callspec.params for item in request.session.items if fixture in item.fixturenames]
    selected = [one["case"] for one in params if fixture not in one or one[fixture] is request.param]
    few = {kind: replace(patience, attempts=ATTEMPTS) for kind, patience in step_activity.PATIENCE.items()}
    slots = asyncio.Semaphore(AT_ONCE)
    async with copy_of(migrated) as url, case_environment(temporal_address, url, pools, controllers) as ready:

        async def in_turn(case: Case) -> Seen:
            async with slots, asyncio.timeout(PATIENCE_SECONDS):
                return await run_case(ready, case)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step_activity, "PATIENCE", few)
            tasks = {case: asyncio.create_task(in_turn(case)) for case in selected}
            yield tasks
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


def differences(seen: Seen, case: Case) -> list[str]:
    """How the end that was seen differs from the nearest end that the rules allow."""
    return min((seen.differs_from(end) for end in case.ends), key=len)
