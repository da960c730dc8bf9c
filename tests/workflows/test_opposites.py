"""For any line and any change, the order and then its opposite leave the database, RADIUS and NetBox as before.

Only histories grow. `make test-every-way` plays more lives. tests/workflows/opposites.py generates them.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import copy_of
from tests.workflows.every_way.controllers import CaseControllers
from tests.workflows.every_way.environment import CaseEnvironment, case_environment
from tests.workflows.every_way.netbox_pools import DELEGATED, DIRECT, netbox_pools
from tests.workflows.opposites import Life, live, lives

ROUNDS = 40 if "LASTMILE_EVERY_CASE" in os.environ else 2
"""Of some six lives that are played side by side, each in a tenant of its own. The first has only one."""


@pytest.fixture(scope="module", params=[None, DIRECT, DELEGATED], ids=["database", "direct", "delegated"])
async def env(request: pytest.FixtureRequest, migrated: str, temporal_address: str) -> AsyncIterator[CaseEnvironment]:
    """The servers: with pools in the database and controllers of devices, or with one pool of each tenant in NetBox."""
    async with copy_of(migrated) as url, AsyncExitStack() as stack:
        pools = await stack.enter_async_context(netbox_pools(request.param)) if request.param else None
        controllers = None if pools else await stack.enter_async_context(CaseControllers.running())
        yield await stack.enter_async_context(case_environment(temporal_address, url, pools, controllers))


@pytest.mark.timeout(3600)
@settings(max_examples=ROUNDS)
@given(several=st.lists(lives(), min_size=1, max_size=12))
async def test_changes_and_their_opposites_leave_the_line_as_before(
    env: CaseEnvironment, several: Sequence[Life]
) -> None:
    played = await asyncio.gather(*(live(env, life) for life in several), return_exceptions=True)
    for life, failure in zip(several, played, strict=True):
        if failure is not None:
            failure.add_note(f"{life}")
            raise failure
