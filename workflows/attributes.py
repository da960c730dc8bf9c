"""The search attributes by which an operator finds runs, and how they come to exist in a namespace."""

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError

from workflows.awaiting import unknown_attribute

__all__ = ["ATTENTION", "OPERATION", "STEP", "TENANT", "add_search_attributes"]

TENANT = SearchAttributeKey.for_keyword("LastmileTenant")
OPERATION = SearchAttributeKey.for_keyword("LastmileOperation")
STEP = SearchAttributeKey.for_keyword("LastmileStep")
"""The step at which a run failed, is parked, or waits."""
ATTENTION = SearchAttributeKey.for_bool("LastmileAttention")
"""True while a run waits for a person's decision."""


async def add_search_attributes(client: Client) -> list[str]:
    """Add them to the client's namespace where they are missing, and wait until the server knows them.

    Returns what is in the way of that. The client waits as `workflows.awaiting` says.
    """
    wanted = {
        key.name: IndexedValueType.INDEXED_VALUE_TYPE_BOOL
        if key is ATTENTION
        else IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        for key in (TENANT, OPERATION, STEP, ATTENTION)
    }
    operator = client.operator_service
    try:
        known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
        if missing := {name: kind for name, kind in wanted.items() if name not in known.custom_attributes}:
            await operator.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
            )
    except RPCError as failure:
        return [
            f"Temporal: the search attributes {', '.join(wanted)} could not be added to namespace "
            f"{client.namespace} ({failure}): have its administrator add them"
        ]
    # The list above is the database's; only a call that names them shows what the server's processes know.
    named = " AND ".join(f"{key.name} IS NULL" for key in (TENANT, OPERATION, STEP, ATTENTION))
    try:
        await client.count_workflows(named)
    except RPCError as failure:
        if unknown_attribute(failure):
            return [failure.message]
        # Nothing else that is wrong with a query keeps orders from running.
    return []
