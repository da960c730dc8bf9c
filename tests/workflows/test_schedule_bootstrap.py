"""No failure to make the Schedules keeps a worker from its orders, and none is for good."""

import uuid

from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, ScheduleActionStartWorkflow, ScheduleUpdate, ScheduleUpdateInput

from lastmile.client.schedule_bootstrap import ScheduleBootstrap
from lastmile.client.schedule_manager import WRITTEN, ScheduleManager
from lastmile.client.schedules import SCHEDULES
from lastmile.encryption.codec import encode_unencrypted
from tests.support.processes import until

NAMES = [plan.name for plan in SCHEDULES]


async def test_what_could_not_be_made_is_made_by_and_by(temporal_client: Client) -> None:
    namespace = f"test-{uuid.uuid4().hex}"
    client = Client(**temporal_client.config() | {"namespace": namespace})
    standing = ScheduleManager(client, "lastmile")

    def made() -> list[str]:
        return sorted(line["schedule"] for line in logs if line["event"] == "worker.schedule_created")

    async def all_told() -> bool:
        return len(made()) == len(NAMES)

    with capture_logs() as logs:
        async with ScheduleBootstrap(standing):
            assert [line["event"] for line in logs] == ["worker.schedule_not_made"] * 3
            assert namespace in logs[0]["reason"]
            await client.workflow_service.register_namespace(
                RegisterNamespaceRequest(
                    namespace=namespace,
                    workflow_execution_retention_period=Duration(seconds=86_400),
                )
            )
            await until(all_told)  # which comes after the last of them is there
    assert made() == sorted(map(standing.id_of, NAMES))
    for plan in SCHEDULES:
        await standing.standing(plan)
        await client.get_schedule_handle(standing.id_of(plan.name)).delete()


async def test_one_that_cannot_be_made_leaves_the_others(temporal_client: Client) -> None:
    standing = ScheduleManager(temporal_client, f"test-{uuid.uuid4().hex}")
    await standing.make(SCHEDULES[0])
    handle = temporal_client.get_schedule_handle(standing.id_of(NAMES[0]))

    def spoilt(found: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = found.description.schedule
        assert isinstance(schedule.action, ScheduleActionStartWorkflow)
        schedule.action.memo = {WRITTEN: encode_unencrypted("by somebody else")}
        return ScheduleUpdate(schedule)

    await handle.update(spoilt)
    with capture_logs() as logs:
        async with ScheduleBootstrap(standing):
            pass
    assert [(line["event"], line["schedule"]) for line in logs] == [
        ("worker.schedule_not_made", standing.id_of(NAMES[0])),
        *(("worker.schedule_created", standing.id_of(name)) for name in NAMES[1:]),
    ]
    for name in NAMES:
        await temporal_client.get_schedule_handle(standing.id_of(name)).delete()
