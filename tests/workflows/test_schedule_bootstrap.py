"""The creation of Schedules at a worker's start: a failure does not stop the worker, and is retried."""

import uuid

from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, ScheduleActionStartWorkflow, ScheduleUpdate, ScheduleUpdateInput

from lastmile.client.schedules.bootstrap import ScheduleBootstrap
from lastmile.client.schedules.manager import WRITTEN, ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES
from lastmile.encryption.codec import encode_unencrypted
from tests.support.processes import until

NAMES = [plan.name for plan in SCHEDULES]


async def test_schedules_that_failed_are_retried(temporal_client: Client) -> None:
    namespace = f"test-{uuid.uuid4().hex}"
    client = Client(**temporal_client.config() | {"namespace": namespace})
    manager = ScheduleManager(client, "lastmile")

    def made() -> list[str]:
        return sorted(line["schedule"] for line in logs if line["event"] == "worker.schedule_created")

    async def all_told() -> bool:
        return len(made()) == len(NAMES)

    with capture_logs() as logs:
        async with ScheduleBootstrap(manager):
            assert [line["event"] for line in logs] == ["worker.schedule_not_made"] * len(NAMES)
            assert namespace in logs[0]["reason"]
            await client.workflow_service.register_namespace(
                RegisterNamespaceRequest(
                    namespace=namespace,
                    workflow_execution_retention_period=Duration(seconds=86_400),
                )
            )
            await until(all_told)  # the log entry follows the creation
    assert made() == sorted(map(manager.id_of, NAMES))
    for plan in SCHEDULES:
        await manager.status(plan)
        await client.get_schedule_handle(manager.id_of(plan.name)).delete()


async def test_schedule_that_fails_does_not_block_the_others(temporal_client: Client) -> None:
    manager = ScheduleManager(temporal_client, f"test-{uuid.uuid4().hex}")
    await manager.make(SCHEDULES[0])
    handle = temporal_client.get_schedule_handle(manager.id_of(NAMES[0]))

    def spoilt(found: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = found.description.schedule
        assert isinstance(schedule.action, ScheduleActionStartWorkflow)
        schedule.action.memo = {WRITTEN: encode_unencrypted("by somebody else")}
        return ScheduleUpdate(schedule)

    await handle.update(spoilt)
    with capture_logs() as logs:
        async with ScheduleBootstrap(manager):
            pass
    assert [(line["event"], line["schedule"]) for line in logs] == [
        ("worker.schedule_not_made", manager.id_of(NAMES[0])),
        *(("worker.schedule_created", manager.id_of(name)) for name in NAMES[1:]),
    ]
    for name in NAMES:
        await temporal_client.get_schedule_handle(manager.id_of(name)).delete()
