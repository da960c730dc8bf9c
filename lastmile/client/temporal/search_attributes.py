"""Add Lastmile's search attributes to a namespace, and wait until the server knows them.

A Temporal server reads new search attributes from its database: each of its processes knows them after up to a minute.
Until then it refuses every call that names one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import (
    Client,
    CountWorkflowsInput,
    CreateScheduleInput,
    Interceptor,
    OutboundInterceptor,
    ScheduleHandle,
    StartWorkflowInput,
    WorkflowExecutionCount,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode

from workflows.search_attributes import ALL, ATTENTION

__all__ = ["SearchAttributeInterceptor", "add_search_attributes", "unknown_attribute"]

PATIENCE_SECONDS = 90
PAUSE_SECONDS = 1

# The messages of servers from 1.20 on, for an execution and for a query with an unknown attribute.
_SAID = ("has no mapping defined for search attribute", "is not a valid search attribute")

log = logging.getLogger("lastmile.temporal")

Answer = TypeVar("Answer")


def unknown_attribute(failure: RPCError) -> bool:
    """Tell whether the server refused the call because it does not know a search attribute."""
    return failure.status is RPCStatusCode.INVALID_ARGUMENT and any(said in str(failure) for said in _SAID)


class SearchAttributeInterceptor(Interceptor):
    """A client interceptor that repeats such calls for `patience` seconds and logs that it waits."""

    def __init__(self, patience: float = PATIENCE_SECONDS, pause: float = PAUSE_SECONDS) -> None:
        self._patience = patience
        self._pause = pause

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Awaited(next, self)

    async def known(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Repeat the call until the server knows the search attributes that the call names, and return its answer."""
        deadline = asyncio.get_running_loop().time() + self._patience
        waits = False
        while True:
            try:
                return await call()
            except RPCError as failure:
                if not unknown_attribute(failure):
                    raise
                if asyncio.get_running_loop().time() > deadline:
                    raise RPCError(
                        "Temporal does not know Lastmile's search attributes: start a worker, which adds them, or try "
                        f"again later ({failure.message})",
                        failure.status,
                        failure.raw_grpc_status,
                    ) from failure
                if not waits:
                    log.warning(
                        "Temporal does not know Lastmile's search attributes yet, which a worker adds when it starts. "
                        "A server learns new ones within a minute: waiting up to %.0f s.",
                        self._patience,
                    )
                waits = True
                await asyncio.sleep(self._pause)


class _Awaited(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, awaited: SearchAttributeInterceptor) -> None:
        super().__init__(next)
        self._awaited = awaited

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        return await self._awaited.known(lambda: self.next.start_workflow(input))

    async def create_schedule(self, input: CreateScheduleInput) -> ScheduleHandle:
        return await self._awaited.known(lambda: self.next.create_schedule(input))

    async def count_workflows(self, input: CountWorkflowsInput) -> WorkflowExecutionCount:
        return await self._awaited.known(lambda: self.next.count_workflows(input))


async def add_search_attributes(client: Client) -> list[str]:
    """Add the search attributes to the client's namespace, and wait until the server knows them.

    Returns the problems that prevent this. The client waits with `SearchAttributeInterceptor`.
    """
    types = {
        key.name: IndexedValueType.INDEXED_VALUE_TYPE_BOOL
        if key is ATTENTION
        else IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        for key in ALL
    }
    operator = client.operator_service
    try:
        known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
        if missing := {name: kind for name, kind in types.items() if name not in known.custom_attributes}:
            await operator.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
            )
    except RPCError as failure:
        return [
            f"Temporal: the search attributes {', '.join(types)} could not be added to namespace "
            f"{client.namespace} ({failure}): have its administrator add them"
        ]
    # The list comes from the database. Only a call that names the attributes shows what the server's processes know.
    named = " AND ".join(f"{key.name} IS NULL" for key in ALL)
    try:
        await client.count_workflows(named)
    except RPCError as failure:
        if unknown_attribute(failure):
            return [failure.message]
        # No other failure of the query keeps orders from running.
    return []
