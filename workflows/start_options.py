"""The options with which the client, or a scheduled start, starts the workflow of an order."""

from typing import Any

from temporalio.common import Priority, SearchAttributePair, TypedSearchAttributes

from lastmile.contract import AnyOrder, Urgency
from workflows.search_attributes import OPERATION, TENANT

__all__ = ["memo", "priority", "search_attributes", "summary"]

# Temporal's priority keys: the lower goes first, 3 is its default.
_PRIORITY_KEYS = {Urgency.URGENT: 1, Urgency.NORMAL: 3, Urgency.BULK: 5}


def priority(order: AnyOrder) -> Priority:
    """Return the Temporal priority: by urgency, and within one level by tenant in turn."""
    return Priority(priority_key=_PRIORITY_KEYS[order.urgency], fairness_key=order.tenant)


def search_attributes(order: AnyOrder) -> TypedSearchAttributes:
    """Return the search attributes by which operators find the run."""
    return TypedSearchAttributes(
        [SearchAttributePair(TENANT, order.tenant), SearchAttributePair(OPERATION, order.operation)]
    )


def memo(order: AnyOrder) -> dict[str, Any]:
    """Return the memo: it identifies the order and its content, and names the sender."""
    identity = {"order_id": order.order_id, "digest": order.digest}
    return identity | ({"requested_by": order.requested_by} if order.requested_by else {})


def summary(order: AnyOrder) -> str:
    """Return the static summary that the Temporal UI shows."""
    return f"{order.operation} {order.subscriber_ref}, order {order.order_id}"
