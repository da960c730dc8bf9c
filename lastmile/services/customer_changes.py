"""Change the contact data of a customer, without an order.

An `update_customer` order does the same for callers that send orders. A direct change is exact: the caller has seen the
state that it replaces, and its stored answer (`Idempotency-Key`) needs no personal data.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import func, select

from lastmile.db import TenantConnection
from lastmile.services.records.subscribers import Subscriber, read_subscriber
from lastmile.subscribers import records
from lastmile.subscribers.errors import CustomerBusyError, LineStateError, UnknownSubscriberError
from lastmile.subscribers.tables import orders, previous_values

__all__ = ["change_customer"]


async def change_customer(
    connection: TenantConnection,
    tenant: str,
    subscriber_ref: str,
    changes: Mapping[str, str | None],
    check: Callable[[Subscriber], None],
) -> None:
    """Change the name, e-mail address or phone number of the subscriber's customer. None removes a value.

    `check` may refuse: it gets the subscriber as it is, and no other transaction changes the customer meanwhile.

    Raises:
        UnknownSubscriberError: the subscriber does not exist.
        LineStateError: the subscriber is archived.
        CustomerBusyError: an open order has corrected the customer, and may be rolled back.
    """
    try:
        customer = await records.lock_customer(connection, subscriber_ref)
    except UnknownSubscriberError:
        await read_subscriber(connection, tenant, subscriber_ref, personal=False)  # raises where there never was one
        raise LineStateError(
            f"Subscriber {subscriber_ref} is archived: the data of its customer is not changed."
        ) from None
    check(await read_subscriber(connection, tenant, subscriber_ref, personal=True))
    if order_id := await _correcting_order(connection, customer.id):
        raise CustomerBusyError(
            f"Order {order_id} is correcting customer {customer.ref}, and has not ended. Wait for it, or cancel it."
        )
    await records.update_customer(connection, subscriber_ref, changes)


async def _correcting_order(connection: TenantConnection, customer_id: str) -> str | None:
    """Return the open order that has corrected the customer: its rollback restores what it has replaced."""
    kept = previous_values.c
    query = (
        select(orders.c.order_id)
        .join(previous_values, kept.created_by_order == orders.c.order_id)
        .where(
            kept.step == "update_customer",
            kept.value["customer_id"].astext == str(customer_id),
            func.lastmile_order_unfinished(orders.c.status),
        )
        .limit(1)
    )
    found: str | None = await connection.scalar(query)
    return found
