"""Records the histories that test_replay.py holds the workflows against. Run by hand, from the repository's root:

    python -m tests.workflows.record_histories

Recording anew takes away the witness of what open runs did: docs/changing-workflows.md says when that may be. There is
one history for each way to end: those of the matrix are generated from its cases.
"""

import asyncio
import json
import socket
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from db.migrate import upgrade
from devstack.postgres import EmbeddedPostgres
from devstack.temporal import DevTemporal
from devstack.temporal_program import find_temporal
from tests.workflows.every_way.cases import ENDINGS
from tests.workflows.every_way.play import play
from tests.workflows.every_way.stage import Stage, stage
from tests.workflows.faults import Faults, Gate
from tests.workflows.world import Orders, dispatched, until_refused
from workflows.client import Lastmile, OrderRun

DIRECTORY = Path(__file__).with_name("histories")

Scenario = Callable[[Lastmile, Faults, Orders], Awaitable[OrderRun]]

# Of the machine that recorded, and without a part in a replay. (`sdkMetadata` has one: the checks that apply.)
_PRIVATE = {"identity", "stackTrace", "workerVersion"}


async def provision_completed(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    return await lastmile.start(orders.provision())


async def provision_again(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    await lastmile.execute(orders.provision())
    return await lastmile.start(orders.provision())


async def deprovision_completed(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    await lastmile.execute(orders.provision())
    return await lastmile.start(orders.deprovision())


async def dispatch_in_its_turn(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    gate = faults.before["create_customer"] = Gate()
    first = await lastmile.start(orders.provision())
    await gate.reached.wait()
    order = orders.deprovision(not_before=datetime.now(UTC) + timedelta(seconds=1))
    held = await lastmile.scheduled.hold(order)
    assert held is not None
    dispatch = await dispatched(lastmile, held)
    await until_refused(dispatch)
    gate.open()
    await first.result()
    return OrderRun(order, dispatch)


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (provision_completed, provision_again, deprovision_completed, dispatch_in_its_turn)
}
"""Beside the ends of the matrix (every_way/cases.py): the ways to end that need no fault."""

NAMES = [*SCENARIOS, *ENDINGS]
"""Of all histories."""


def _public(recorded: Any) -> Any:
    if isinstance(recorded, dict):
        return {name: _public(value) for name, value in recorded.items() if name not in _PRIVATE}
    if isinstance(recorded, list):
        return [_public(value) for value in recorded]
    return recorded


async def _write(name: str, run: OrderRun) -> None:
    """One line for each event."""
    history = _public(json.loads((await run.handle.fetch_history()).to_json()))
    events = ",\n".join(json.dumps(event) for event in history["events"]).replace(socket.gethostname(), "recorder")
    (DIRECTORY / f"{name}.json").write_text(f'{{"events": [\n{events}\n]}}\n')
    print(name)


async def _record(stage: Stage) -> None:
    for name, scenario in SCENARIOS.items():
        run = await scenario(stage.lastmile, stage.faults, await stage.tenant(name))
        await run.result()
        await _write(name, run)
    for name, case in ENDINGS.items():
        seen = await play(stage, case)
        if differences := seen.differs_from(case.ends[0]):
            raise SystemExit(f"{case} does not end as the rules say, so there is nothing to record: {differences}")
        await _write(name, seen.run)


async def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        async with (
            EmbeddedPostgres(directory, durable=False) as postgres,
            DevTemporal(directory, program=await find_temporal(print), database=None) as temporal,
        ):
            await upgrade(postgres.url)
            async with stage(temporal.address, postgres.url) as ready:
                await _record(ready)
    for file in DIRECTORY.glob("*.json"):
        if file.stem not in NAMES:
            file.unlink()


if __name__ == "__main__":
    asyncio.run(main())
