"""Tests of the warnings while orders wait: each is printed only when it is true."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode, ServiceClient

from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_import.runs import OrderRuns


class Lossy(ServiceClient):
    """A connection to Temporal that loses the replies to some requests; None: to all."""

    def __init__(self, inner: ServiceClient, lost: frozenset[str] | None) -> None:
        super().__init__(inner.config)
        self._inner = inner
        self._lost = lost
        self.asked: Counter[str] = Counter()
        self.changed = asyncio.Condition()

    @property
    def worker_service_client(self) -> Any:
        return self._inner.worker_service_client

    def update_rpc_metadata(self, metadata: Any) -> None:
        self._inner.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        self._inner.update_api_key(api_key)

    async def _rpc_call(self, rpc: str, *arguments: Any, **more: Any) -> Any:
        async with self.changed:
            self.asked[rpc] += 1
            self.changed.notify_all()
        if self._lost is None or rpc in self._lost:
            raise RPCError("Timeout expired", RPCStatusCode.DEADLINE_EXCEEDED, b"")
        return await self._inner._rpc_call(rpc, *arguments, **more)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (frozenset({"describe_task_queue"}), []),
        (None, ["Temporal does not answer; waiting for it. Orders that were started go on once it is back."]),
    ],
    ids=["one-request", "every-request"],
)
async def test_watch_says_that_temporal_is_away_only_if_it_does_not_answer(
    temporal_client: Client, lost: frozenset[str] | None, said: list[str]
) -> None:
    connection = Lossy(temporal_client.service_client, lost)
    warned: list[str] = []
    runs = OrderRuns(OperatorClient(Client(connection), "no-queue"), warned.append)
    async with runs, connection.changed:  # the second look comes after the first has ended
        await connection.changed.wait_for(lambda: connection.asked["describe_task_queue"] == 2)
    assert warned == said
