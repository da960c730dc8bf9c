"""What every run of an order is started with, by a client or by the run that waited for the order's date."""

from typing import Any

from temporalio.common import Priority, SearchAttributePair, TypedSearchAttributes

from lastmile.contract import AnyOrder, Operation, Urgency
from workflows.search_attributes import OPERATION, TENANT

__all__ = ["WORKFLOW_TYPES", "memo", "priority", "search_attributes", "summary"]

WORKFLOW_TYPES = {Operation.PROVISION: "Provision", Operation.DEPROVISION: "Deprovision"}

# Temporal's priority keys: the lower goes first, 3 is its default.
_PRIORITY_KEYS = {Urgency.URGENT: 1, Urgency.NORMAL: 3, Urgency.BULK: 5}


def priority(order: AnyOrder) -> Priority:
    """Urgency decides between levels, and within a level the tenants take turns."""
    return Priority(priority_key=_PRIORITY_KEYS[order.urgency], fairness_key=order.tenant)


def search_attributes(order: AnyOrder) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [SearchAttributePair(TENANT, order.tenant), SearchAttributePair(OPERATION, order.operation)]
    )


def memo(order: AnyOrder) -> dict[str, Any]:
    """What tells one order's run from another's, and whom to ask about it."""
    told = {"order_id": order.order_id, "digest": order.digest}
    return told | ({"requested_by": order.requested_by} if order.requested_by else {})


def summary(order: AnyOrder) -> str:
    return f"{order.operation} {order.subscriber_ref}, order {order.order_id}"
