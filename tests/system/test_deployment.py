"""A new version of the workers comes while orders run: each order ends on the version that began it."""

import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from lastmile.client.operator_client import OperatorClient
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.client.temporal.worker_versions import current_build
from lastmile.contract import ProvisionSubscriber, ResultStatus
from tests.support.orders import Orders
from tests.support.processes import Environment, healthy, port_of, started, until
from tests.test_worker import environment, orders  # noqa: F401

ROOT = Path(__file__).parents[2]


def next_version(directory: Path) -> Path:
    """The code with two steps that have changed places: no run of before can go on with it."""
    code = directory / "next"
    code.mkdir()
    for package in (path.parent for path in ROOT.glob("*/__init__.py")):
        shutil.copytree(package, code / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ROOT.glob("*.py"):
        shutil.copy(module, code)
    operations = code / "lastmile" / "contract" / "operations" / "provision.py"
    text = operations.read_text()
    onu, cpe = _step(text, "activate_onu"), _step(text, "configure_cpe")
    assert onu + cpe in text, "the two steps follow each other"
    operations.write_text(text.replace(onu + cpe, cpe + onu))
    return code


def _step(text: str, name: str) -> str:
    """Return the source of the first step of this name."""
    start = text.index(f'        Step(\n            "{name}"')
    end = "        ),\n"
    return text[start : text.index(end, start) + len(end)]


async def make_current(client: Client, deployment: str, build_id: str) -> None:
    """As `temporal worker deployment set-current-version` does, once all kinds of the version's pollers are known.

    Ends when the task queue, named like the deployment, has heard of it, which is a moment later.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=deployment, build_id=build_id
    )

    async def done() -> bool:
        try:
            await client.workflow_service.set_worker_deployment_current_version(request)
        except RPCError:
            return False
        return True

    async def heard() -> bool:
        return await current_build(client, deployment) == build_id

    await until(done)
    await until(heard)


async def builds(run: OrderRun) -> set[str]:
    """The versions that worked on the run; the empty one is none."""
    return {
        event.workflow_task_completed_event_attributes.deployment_version.build_id
        async for event in run.handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    }


async def begun(lastmile: Lastmile, order: ProvisionSubscriber) -> OrderRun:
    """Return a run whose last step waits for a lock in an activity of its own: its group has waited long enough."""
    run = await lastmile.start(order)

    async def waits() -> bool:
        pending = (await run.handle.describe()).raw_description.pending_activities
        return any(activity.activity_type.name == "create_billing_service" for activity in pending)

    await until(waits)
    return run


async def test_rolling_upgrade_beside_running_orders_loses_none(
    environment: Environment,  # noqa: F811
    temporal_client: Client,
    orders: Orders,  # noqa: F811
    owner: asyncpg.Connection,
    tmp_path: Path,
) -> None:
    port = port_of(environment)
    lastmile = Lastmile(temporal_client, task_queue=orders.ref)
    environment |= {"LASTMILE_DEPLOYMENT": orders.ref}
    first = environment | {"LASTMILE_BUILD_ID": "1"}
    second = environment | {"LASTMILE_BUILD_ID": "2", "LASTMILE_HTTP_PORT": str(port + 1)}

    async with started(environment) as unversioned:
        await healthy(port)
        async with owner.transaction():
            await owner.execute("LOCK TABLE billing_services")
            oldest = await begun(lastmile, orders.provision("O-1", 1))
            unversioned.kill()
            await unversioned.wait()

    async with started(first) as old, AsyncExitStack() as new:
        await make_current(temporal_client, orders.ref, "1")
        assert (await oldest.result()).status is ResultStatus.COMPLETED
        async with owner.transaction():
            await owner.execute("LOCK TABLE billing_services")
            held = await begun(lastmile, orders.provision("O-2", 2))
            await new.enter_async_context(started(second, code=next_version(tmp_path)))
            await make_current(temporal_client, orders.ref, "2")
            later = await lastmile.start(orders.provision("O-3", 3))
        results = [await run.result() for run in (held, later)]
        old.terminate()
        assert await old.wait() == 0
        last = await lastmile.start(orders.provision("O-4", 4))
        results.append(await last.result())

    assert [result.status for result in results] == [ResultStatus.COMPLETED] * 3
    assert [await builds(run) for run in (oldest, held, later, last)] == [{"", "1"}, {"1"}, {"2"}, {"2"}]
    devices = [[step.step for step in result.steps][6:8] for result in results]
    assert devices == [["activate_onu", "configure_cpe"], *[["configure_cpe", "activate_onu"]] * 2]


async def test_worker_of_an_inactive_version_names_the_remedy(
    environment: Environment,  # noqa: F811
    temporal_client: Client,
    orders: Orders,  # noqa: F811
) -> None:
    command = f"temporal worker deployment set-current-version --deployment-name {orders.ref} --build-id 1.2"
    version = {"LASTMILE_DEPLOYMENT": orders.ref, "LASTMILE_BUILD_ID": "1.2", "LASTMILE_HTTP_PORT": "0"}
    async with started(environment | version) as process:
        assert process.stderr is not None
        while b"worker.gets_no_new_orders" not in (line := await process.stderr.readline()):
            assert line
        assert command in line.decode()
        worker_shortage = OperatorClient(temporal_client, orders.ref).worker_shortage

        async def told() -> bool:
            return command in await worker_shortage()

        await until(told)
        await make_current(temporal_client, orders.ref, "1.2")
        assert await worker_shortage() == ""
