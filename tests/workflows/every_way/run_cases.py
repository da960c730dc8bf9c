"""Play the cases of the tests that are selected, side by side."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import make_url

from tests.workflows.every_way.cases import Case
from tests.workflows.every_way.environment import case_environment
from tests.workflows.every_way.netbox_pools import NetBoxPools
from tests.workflows.every_way.run_case import Seen, run_case

__all__ = ["CaseTasks", "differences", "running_cases"]

AT_ONCE = 16
"""How many cases are played side by side; most of them wait for a time-out or the audit most of the time."""
PATIENCE_SECONDS = 90

CaseTasks = dict[Case, asyncio.Task[Seen]]


@asynccontextmanager
async def running_cases(
    request: pytest.FixtureRequest,
    fixture: str,
    migrated: str,
    temporal_address: str,
    pools: NetBoxPools | None = None,
) -> AsyncIterator[CaseTasks]:
    """Start the cases of all tests that use the fixture, in one environment. Each test waits for its own case."""
    params = [item.callspec.params for item in request.session.items if fixture in item.fixturenames]
    selected = [one["case"] for one in params if fixture not in one or one[fixture] is request.param]
    name = f"test_{uuid.uuid4().hex}"
    template = make_url(migrated)
    admin = await asyncpg.connect(template.set(database="postgres").render_as_string(hide_password=False))
    await admin.execute(f'CREATE DATABASE {name} TEMPLATE "{template.database}" STRATEGY FILE_COPY')
    url = template.set(database=name).render_as_string(hide_password=False)
    slots = asyncio.Semaphore(AT_ONCE)
    async with case_environment(temporal_address, url, pools) as ready:

        async def in_turn(case: Case) -> Seen:
            async with slots, asyncio.timeout(PATIENCE_SECONDS):
                return await run_case(ready, case)

        tasks = {case: asyncio.create_task(in_turn(case)) for case in selected}
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


def differences(seen: Seen, case: Case) -> list[str]:
    """How the end that was seen differs from the nearest end that the rules allow."""
    return min((seen.differs_from(end) for end in case.ends), key=len)
