"""Record the histories that test_replay.py replays. Run it by hand, from the repository's root:

    python -m tests.workflows.record_histories             # all of them
    python -m tests.workflows.record_histories audit_ended # only this one

A new recording removes the only evidence of the commands of open runs: docs/development/changing-workflows.md says when
that is allowed. There is one history for each ending. The endings of the matrix are generated from its cases.
"""

import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import asyncpg
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from lastmile.client.orders import Lastmile, OrderRun
from lastmile.contract import Decision, ResumptionResult, workflow_id
from lastmile.db.migrate import upgrade
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import DROPPED
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.devstack.temporal import DevTemporal
from lastmile.devstack.temporal_program import find_temporal
from tests.support.direct_env import AVAILABLE
from tests.support.faults import Faults, Gate, refused
from tests.support.maintenance import AT_ONCE, Maintenance
from tests.support.orders import Orders, dispatched, parked, until_refused
from tests.support.overlaps import short_overlaps
from tests.support.pool_mode_env import BLOCKS, DATABASE, DIRECT, PoolModeEnv
from tests.support.pool_renumberings import TARGET, WORD, Renumberings
from tests.support.processes import until
from tests.workflows.every_way.cases import ENDINGS
from tests.workflows.every_way.environment import CaseEnvironment, case_environment
from tests.workflows.every_way.rules import OPERATIONS as FLOWS
from tests.workflows.every_way.run_case import run_case

DIRECTORY = Path(__file__).with_name("histories")

Run = WorkflowHandle[Any, Any]
Scenario = Callable[[Lastmile, Faults, Orders], Awaitable[Run]]

# Fields that depend on the recording machine and do not matter for a replay. (`sdkMetadata` matters: it has flags.)
_PRIVATE = {"identity", "stackTrace", "workerVersion"}


async def provision_completed(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    return (await lastmile.start(orders.provision())).handle


async def provision_again(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    await lastmile.execute(orders.provision())
    return (await lastmile.start(orders.provision())).handle


async def deprovision_completed(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    await lastmile.execute(orders.provision())
    return (await lastmile.start(orders.deprovision())).handle


async def _change_completed(env: CaseEnvironment, operation: str) -> Run:
    orders = await env.tenant(f"{operation}_completed")
    for number, before in enumerate(FLOWS[operation].after):
        await env.lastmile.execute(orders.of(before, f"O-{number}"))
    return (await env.lastmile.start(orders.of(operation, "O-9"))).handle


async def _renumber_waited(env: CaseEnvironment) -> Run:
    orders = await env.tenant(WAITED)
    await env.lastmile.execute(orders.provision())
    async with short_overlaps(env.owner):
        run = (await env.lastmile.start(orders.renumber(overlap_hours=2))).handle
        await run.result()
    return run


async def _renumberings(env: CaseEnvironment, name: str, lines: int) -> Renumberings:
    """Return the renumberings of a pool that has these lines."""
    orders = await env.tenant(name)
    prefix = ip_network(f"2001:db8:ff{len(name):02x}::/48")
    target = TARGET.model_copy(update={"tenant": orders.tenant, "prefix": prefix})
    found = Renumberings(env.client, env.settings.task_queue, env.database, env.owner, target)
    await found.lines(orders, lines)
    return found


async def pool_renumbered(env: CaseEnvironment) -> Run:
    """With an overlap, and after a pause."""
    renumberings = await _renumberings(env, "pool_renumbered", 3)
    async with short_overlaps(env.owner):
        run = await renumberings.start(overlap_hours=2, lines_per_hour=2400)
        await run.decide("pause", WORD)
        await run.decide("resume", WORD)
        await run.result()
    return run.handle


async def pool_renumbering_stopped(env: CaseEnvironment) -> Run:
    run = await (await _renumberings(env, "pool_renumbering_stopped", 1)).start(lines_per_hour=1)

    async def begun() -> bool:
        return bool((await run.progress()).in_flight)

    await until(begun)
    await run.decide("stop", WORD)
    return run.handle


async def pool_renumbering_failed(env: CaseEnvironment) -> Run:
    renumberings = await _renumberings(env, "pool_renumbering_failed", 5)
    env.faults.before["allocate_replacement"] = refused
    run = await renumberings.start()
    await run.result()
    del env.faults.before["allocate_replacement"]
    return run.handle


POOL_RENUMBERINGS = {
    scenario.__name__: scenario for scenario in (pool_renumbered, pool_renumbering_stopped, pool_renumbering_failed)
}
"""The renumberings of a pool."""


async def scheduled_start_in_its_turn(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    gate = faults.before["create_customer"] = Gate()
    first = await lastmile.start(orders.provision())
    await gate.reached.wait()
    order = orders.deprovision(not_before=datetime.now(UTC) + timedelta(seconds=1))
    held = await lastmile.scheduled.hold(order)
    assert held is not None
    started = await dispatched(lastmile, held)
    await until_refused(started)
    gate.open()
    await first.result()
    return started


async def _parked_past_its_pivot(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    """Return a parked deprovision that cannot release its prefix."""
    await lastmile.execute(orders.provision())
    faults.before[("O-9", "release_ip_address")] = refused
    run = await lastmile.start(orders.deprovision())
    await parked(run)
    return run


async def _cleaned_up(lastmile: Lastmile) -> Run:
    run = await Maintenance(lastmile, "every-way").start("StalePrefixCleanup", AT_ONCE)
    with suppress(WorkflowFailureError):
        await run.result()
    return run


async def cleanup_beside_an_order(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    await _parked_past_its_pivot(lastmile, faults, orders)
    run = await _cleaned_up(lastmile)
    await lastmile.decide(orders.tenant, orders.ref, "abandon", Decision(by="noc-7", why="recorded"))
    return run


async def cleanup_finished_a_revocation(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    run = await _parked_past_its_pivot(lastmile, faults, orders)
    await lastmile.decide(orders.tenant, orders.ref, "abandon", Decision(by="noc-7", why="recorded"))
    with suppress(WorkflowFailureError):
        await run.handle.result()
    return await _cleaned_up(lastmile)


async def finish_revocation(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    await cleanup_finished_a_revocation(lastmile, faults, orders)
    return lastmile.client.get_workflow_handle(workflow_id(orders.tenant, orders.ref))


async def cleanup_a_part_failed(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    faults.before["report_leaks"] = refused
    run = await _cleaned_up(lastmile)
    del faults.before["report_leaks"]
    return run


async def cleanup_of_every_day(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    return await Maintenance(lastmile, "every-way").start("StalePrefixCleanup")


async def audit_ended(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    return await Maintenance(lastmile, "every-way").start("Audit")


async def audit_incomplete(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    faults.before["retry_disconnects"] = refused
    run = await Maintenance(lastmile, "every-way").start("Audit")
    with suppress(WorkflowFailureError):
        await run.result()
    del faults.before["retry_disconnects"]
    return run


async def metrics_taken(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    return await Maintenance(lastmile, "every-way").start("Metrics")


async def resumption_started(lastmile: Lastmile, faults: Faults, orders: Orders) -> Run:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.suspend(until=datetime.now(UTC) + timedelta(seconds=3)))
    while True:
        run = await Maintenance(lastmile, "every-way").start("Resumption", returns=ResumptionResult)
        if (await run.result()).started:
            return run


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        provision_completed,
        provision_again,
        deprovision_completed,
        scheduled_start_in_its_turn,
        cleanup_beside_an_order,
        cleanup_finished_a_revocation,
        finish_revocation,
        cleanup_a_part_failed,
        cleanup_of_every_day,
        audit_ended,
        audit_incomplete,
        metrics_taken,
        resumption_started,
    )
}
"""The endings that the matrix (every_way/cases.py) does not have: endings without a fault, and scheduled runs."""


async def pool_mode_refused(env: PoolModeEnv) -> Run:
    theirs = await env.create_foreign_prefix("2001:db8:4000::/60")
    run = (await env.request(await env.home_pool(), env.place(DIRECT))).handle
    with suppress(WorkflowFailureError):
        await run.result()
    await env.delete_in_netbox(theirs)
    return run


async def pool_mode_changed(env: PoolModeEnv) -> Run:
    run = (await env.request(await env.home_pool(), env.place(DIRECT))).handle
    await run.result()
    return run


async def pool_mode_cancelled(env: PoolModeEnv) -> Run:
    await env.begin("S-9", "O-9")
    env.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    with suppress(ApplicationError):
        await env.allocate("S-9", "O-9")
    run = await env.request(await env.home_pool(), env.place(BLOCKS))

    async def closed() -> bool:
        return (await run.progress()).closed

    await until(closed)
    await run.handle.cancel()
    return run.handle


POOL_MODES = {scenario.__name__: scenario for scenario in (pool_mode_refused, pool_mode_changed, pool_mode_cancelled)}
"""The changes of one pool, one after the other: record all of them, or none."""

CHANGES = {f"{operation}_completed": operation for operation in FLOWS if operation not in ("provision", "deprovision")}
"""The changes of a line that completed."""

WAITED = "renumber_waited"
"""A renumbering with an overlap."""

NAMES = [*SCENARIOS, *CHANGES, WAITED, *POOL_RENUMBERINGS, *POOL_MODES, *ENDINGS]
"""The names of all histories."""


def _public(recorded: Any) -> Any:
    if isinstance(recorded, dict):
        return {name: _public(value) for name, value in recorded.items() if name not in _PRIVATE}
    if isinstance(recorded, list):
        return [_public(value) for value in recorded]
    return recorded


async def _write(name: str, run: Run) -> None:
    """Write the history of the run, one line for each event."""
    history = _public(json.loads((await run.fetch_history()).to_json()))
    events = ",\n".join(json.dumps(event) for event in history["events"]).replace(socket.gethostname(), "recorder")
    (DIRECTORY / f"{name}.json").write_text(f'{{"events": [\n{events}\n]}}\n')
    print(name)


async def _record(env: CaseEnvironment, wanted: Collection[str]) -> None:
    for name, scenario in SCENARIOS.items():
        if name in wanted:
            run = await scenario(env.lastmile, env.faults, await env.tenant(name))
            with suppress(WorkflowFailureError):
                await run.result()
            await _write(name, run)
    for name, operation in CHANGES.items():
        if name in wanted:
            run = await _change_completed(env, operation)
            await run.result()
            await _write(name, run)
    if WAITED in wanted:
        await _write(WAITED, await _renumber_waited(env))
    for name, renumbering in POOL_RENUMBERINGS.items():
        if name in wanted:
            run = await renumbering(env)
            with suppress(WorkflowFailureError):
                await run.result()
            await _write(name, run)
    for name, case in ENDINGS.items():
        if name not in wanted:
            continue
        seen = await run_case(env, case)
        if differences := seen.differs_from(case.ends[0]):
            raise SystemExit(f"{case} does not end as the rules say, so there is nothing to record: {differences}")
        await _write(name, seen.run.handle)


async def _record_pool_modes(client: Client, database_url: str) -> None:
    owner = await asyncpg.connect(database_url)
    with NetBoxServer() as server:
        async with PoolModeEnv.serving(database_url, owner, server) as env, env.working(client):
            await env.start(DATABASE)
            await env.lines(3)
            for name, scenario in POOL_MODES.items():
                run = await scenario(env)
                with suppress(WorkflowFailureError):
                    await run.result()
                await _write(name, run)
    await owner.close()


async def main(wanted: Collection[str]) -> None:
    if unknown := set(wanted) - set(NAMES):
        raise SystemExit(f"there is no history {', '.join(sorted(unknown))}; there is {', '.join(NAMES)}")
    DIRECTORY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        async with (
            EmbeddedPostgres(directory, durable=False) as postgres,
            DevTemporal(directory, program=await find_temporal(print), database=None) as temporal,
        ):
            await upgrade(postgres.url)
            async with case_environment(temporal.address, postgres.url) as ready:
                await _record(ready, wanted)
                if POOL_MODES.keys() & set(wanted):
                    await _record_pool_modes(ready.client, postgres.url)
    for file in DIRECTORY.glob("*.json"):
        if file.stem not in NAMES:
            file.unlink()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or NAMES))
