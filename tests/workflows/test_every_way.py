"""Every way a run can go: each activity of each operation times each fault, generated (every_way/cases.py), played on
real servers and held against the rules (every_way/rules.py): its outcome, the rows that it left, and the audit."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import make_url

from lastmile.contract import operations
from tests.workflows.every_way.cases import CASES, Case
from tests.workflows.every_way.play import Seen, play
from tests.workflows.every_way.rules import OPERATIONS
from tests.workflows.every_way.shelf import AWAY, DELEGATED, DIRECT, Shelf, shelf
from tests.workflows.every_way.stage import stage
from tests.workflows.every_way.table import WAY

AT_ONCE = 10
"""How many cases are played side by side; most of them wait for a time-out most of the time."""
PATIENCE_SECONDS = 90

STEPS = {"provision": operations.PROVISION.steps, "deprovision": operations.DEPROVISION.steps}

OF_ADDRESSES = {"allocate_ip_address", "activate_ipv6_lifecycle", "revoke_ipv6_lifecycle", "release_ip_address"}
"""What the kind of the pool makes a difference to; a rollback from elsewhere goes through their undos all the same."""

OF_IPAM = {"allocate_ip_address", "release_ip_address"}
"""What a delegated pool would need NetBox for, if anything."""

Plays = dict[Case, asyncio.Task[Seen]]


@pytest.fixture(scope="module")
async def plays(request: pytest.FixtureRequest, migrated: str, temporal_address: str) -> AsyncIterator[Plays]:
    """The selected cases, all begun: each test waits for its own."""
    async with playing(request, "plays", migrated, temporal_address) as tasks:
        yield tasks


@pytest.fixture(scope="module", params=[DIRECT, DELEGATED], ids=str)
async def plays_in_netbox(request: pytest.FixtureRequest, migrated: str, temporal_address: str) -> AsyncIterator[Plays]:
    """The same, with pools in NetBox."""
    async with (
        shelf(request.param) as ready,
        playing(request, "plays_in_netbox", migrated, temporal_address, ready) as tasks,
    ):
        yield tasks


@pytest.fixture(scope="module")
async def plays_away(request: pytest.FixtureRequest, migrated: str, temporal_address: str) -> AsyncIterator[Plays]:
    """The same, with pools in NetBox that is away."""
    async with shelf(AWAY) as ready, playing(request, "plays_away", migrated, temporal_address, ready) as tasks:
        yield tasks


@asynccontextmanager
async def playing(
    request: pytest.FixtureRequest,
    fixture: str,
    migrated: str,
    temporal_address: str,
    kept: Shelf | None = None,
) -> AsyncIterator[Plays]:
    """The cases of the tests that use the fixture, on a stage of their own."""
    params = [item.callspec.params for item in request.session.items if fixture in item.fixturenames]
    selected = [one["case"] for one in params if fixture not in one or one[fixture] is request.param]
    name = f"test_{uuid.uuid4().hex}"
    template = make_url(migrated)
    admin = await asyncpg.connect(template.set(database="postgres").render_as_string(hide_password=False))
    await admin.execute(f'CREATE DATABASE {name} TEMPLATE "{template.database}" STRATEGY FILE_COPY')
    url = template.set(database=name).render_as_string(hide_password=False)
    slots = asyncio.Semaphore(AT_ONCE)
    async with stage(temporal_address, url, kept) as ready:

        async def in_turn(case: Case) -> Seen:
            async with slots, asyncio.timeout(PATIENCE_SECONDS):
                return await play(ready, case)

        tasks = {case: asyncio.create_task(in_turn(case)) for case in selected}
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


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
    differences = [seen.differs_from(end) for end in case.ends]
    request.node.user_properties.append((WAY, [str(case), seen.words]))
    assert [] in differences, "\n".join(min(differences, key=len))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", [case for case in CASES if case.activity in OF_ADDRESSES], ids=str)
async def test_every_way_with_a_pool_in_netbox(case: Case, plays_in_netbox: Plays) -> None:
    """The same rules: what they call a slot is the record in NetBox, where that chooses."""
    seen = await plays_in_netbox[case]
    differences = [seen.differs_from(end) for end in case.ends]
    assert [] in differences, "\n".join(min(differences, key=len))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", [case for case in CASES if case.activity in OF_IPAM], ids=str)
async def test_every_way_while_netbox_is_away(case: Case, plays_away: Plays) -> None:
    """A delegated pool needs none."""
    seen = await plays_away[case]
    differences = [seen.differs_from(end) for end in case.ends]
    assert [] in differences, "\n".join(min(differences, key=len))
