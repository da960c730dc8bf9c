"""A server that does not know new search attributes yet: calls wait, and then fail with a clear message."""

import logging
import uuid
from typing import Any

import pytest
from temporalio.client import (
    Client,
    CountWorkflowsInput,
    CreateScheduleInput,
    Interceptor,
    OutboundInterceptor,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    StartWorkflowInput,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.orders import Lastmile
from lastmile.client.temporal.search_attributes import SearchAttributeInterceptor, add_search_attributes
from tests.support.orders import Orders
from workflows.start_options import search_attributes


class Late(Interceptor):
    """Refuses the first `refusals` calls in the words of a production server (1.29.1), then passes them on."""

    def __init__(self) -> None:
        self.refusals = 2
        self.asked = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Late(next, self)

    def meet(self, words: str) -> None:
        self.asked += 1
        if self.asked <= self.refusals:
            raise RPCError(words, RPCStatusCode.INVALID_ARGUMENT, b"")


class _Late(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, late: Late) -> None:
        super().__init__(next)
        self._late = late

    async def start_workflow(self, input: StartWorkflowInput) -> Any:
        self._late.meet("Namespace default has no mapping defined for search attribute LastmileTenant")
        return await self.next.start_workflow(input)

    async def create_schedule(self, input: CreateScheduleInput) -> Any:
        self._late.meet("Namespace default has no mapping defined for search attribute LastmileTenant")
        return await self.next.create_schedule(input)

    async def count_workflows(self, input: CountWorkflowsInput) -> Any:
        self._late.meet(
            "invalid query: invalid expression: column name 'LastmileTenant' is not a valid search attribute"
        )
        return await self.next.count_workflows(input)


@pytest.fixture
def late() -> Late:
    return Late()


def waiting(temporal_client: Client, late: Late, *, patience: float = 60) -> Client:
    return Client(
        temporal_client.service_client,
        data_converter=pydantic_data_converter,
        interceptors=[SearchAttributeInterceptor(patience, pause=0.01), late],
    )


async def test_start_waits_for_the_search_attributes(
    temporal_client: Client, late: Late, orders: Orders, caplog: pytest.LogCaptureFixture
) -> None:
    lastmile = Lastmile(waiting(temporal_client, late), task_queue=f"nobody-{uuid.uuid4().hex}")
    with caplog.at_level(logging.WARNING, "lastmile.temporal"):
        run = await lastmile.start(orders.provision())
    await run.handle.terminate()
    assert late.asked == late.refusals + 1
    [said] = caplog.messages
    assert said.startswith("Temporal does not know Lastmile's search attributes yet")


async def test_create_schedule_waits_for_the_search_attributes(
    temporal_client: Client, late: Late, orders: Orders
) -> None:
    attributes = search_attributes(orders.provision())
    action = ScheduleActionStartWorkflow(
        "Provision", id="of-a-schedule", task_queue="nobody", typed_search_attributes=attributes
    )
    client = waiting(temporal_client, late)
    schedule = await client.create_schedule(
        f"late-{uuid.uuid4().hex}", Schedule(action=action, spec=ScheduleSpec()), search_attributes=attributes
    )
    await schedule.delete()
    assert late.asked == late.refusals + 1


async def test_worker_waits_for_the_search_attributes(temporal_client: Client, late: Late) -> None:
    assert await add_search_attributes(waiting(temporal_client, late)) == []
    assert late.asked == late.refusals + 1


async def test_attributes_that_stay_unknown_are_reported(temporal_client: Client, late: Late) -> None:
    late.refusals = 1_000_000
    client = waiting(temporal_client, late, patience=0.05)
    [problem] = await add_search_attributes(client)
    assert problem.startswith("Temporal does not know Lastmile's search attributes: start a worker")
    with pytest.raises(RPCError, match="does not know Lastmile's search attributes: start a worker"):
        await Lastmile(client).start(Orders("S-late").provision())


async def test_other_refusal_is_raised_at_once(temporal_client: Client, late: Late) -> None:
    late.refusals = 0
    with pytest.raises(RPCError, match="invalid query"):
        await waiting(temporal_client, late).count_workflows("no query at all")
    assert late.asked == 1
