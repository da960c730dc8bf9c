"""The client's errors where no order runs and where no server or worker answers."""

from typing import Any

import pytest
from temporalio.client import Client, Interceptor, OutboundInterceptor, QueryWorkflowInput
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.orders import Lastmile, NotRunningError
from lastmile.client.temporal.connection import TemporalUnreachableError, connect
from lastmile.contract import ResultStatus
from lastmile.settings import Settings
from tests.support.faults import Faults, Gate
from tests.support.orders import Orders


async def test_cancel_after_the_run_has_ended_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    """Temporal itself accepts the cancel of a closed run."""
    await lastmile.execute(orders.provision())

    with pytest.raises(NotRunningError, match=f"No order of subscriber {orders.ref} is running"):
        await lastmile.cancel("acme", orders.ref)


class NoPoller(Interceptor):
    """Refuses the first queries in the words of a server whose task queue no worker has polled for a while."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _NoPoller(next, self)


class _NoPoller(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, refusing: NoPoller) -> None:
        super().__init__(next)
        self._refusing = refusing

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        if self._refusing.refusals:
            self._refusing.refusals -= 1
            words = "no poller seen for task queue recently, worker may be down"
            raise RPCError(words, RPCStatusCode.FAILED_PRECONDITION, b"")
        return await self.next.query_workflow(input)


async def test_result_of_a_cancelled_run_waits_for_a_worker(
    temporal_client: Client, lastmile: Lastmile, orders: Orders, faults: Faults, settings: Settings
) -> None:
    refusing = NoPoller(refusals=1)
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[refusing])
    gate = faults.before["allocate_ip_address"] = Gate()
    run = await Lastmile(client, task_queue=settings.task_queue).start(orders.provision())
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()

    result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert refusing.refusals == 0


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", r"No Temporal server answers at 127\.0\.0\.1:1 \(Connection refused\)\. Start one"),
        ("no.such.host.invalid:7233", r"No Temporal server answers at no\.such\.host\.invalid:7233 \("),
    ],
)
async def test_connect_without_a_server_names_the_address(address: str, words: str) -> None:
    with pytest.raises(TemporalUnreachableError, match=words) as failure:
        await connect({"TEMPORAL_ADDRESS": address})

    assert "tonic" not in str(failure.value)
    assert "Error(" not in str(failure.value)
