"""The transfer of a line to another customer, and its undo, each with its billing event in one transaction."""

from typing import Any

from sqlalchemy import literal, select, update
from sqlalchemy.dialects.postgresql import insert

from lastmile.db import TenantConnection
from lastmile.subscribers import previous_values
from lastmile.subscribers.errors import RecordConflictError, UnknownSubscriberError
from lastmile.subscribers.records import delete_customer
from lastmile.subscribers.tables import billing_events, billing_services, customers, subscribers

__all__ = ["return_line", "transfer_line"]

STEP = "transfer_line"


async def transfer_line(
    connection: TenantConnection, tenant: str, order_id: str, subscriber_ref: str, customer_ref: str
) -> str:
    """Give the line to the customer. Return the customer that the line had before the order.

    A repeated call changes nothing and writes no event.

    Raises:
        UnknownSubscriberError: the subscriber does not exist.
        RecordConflictError: the customer was deleted meanwhile.
    """
    owner = await _read_owner(connection, subscriber_ref)
    await previous_values.keep(connection, tenant, order_id, subscriber_ref, STEP, {"customer": owner.customer})
    await _give(connection, order_id, subscriber_ref, owner, customer_ref)
    # A lost order, which this order has taken over, may have created another customer.
    await delete_customer(connection, order_id, stays=customer_ref)
    kept = await previous_values.find(connection, order_id, STEP)
    return str(owner.customer if kept is None else kept["customer"])


async def return_line(connection: TenantConnection, order_id: str, subscriber_ref: str) -> bool:
    """Undo `transfer_line`. Return whether this order had transferred the line.

    Raises:
        RecordConflictError: the former customer was deleted meanwhile.
    """
    kept = await previous_values.take(connection, order_id, STEP)
    if kept is None:
        return False
    owner = await _read_owner(connection, subscriber_ref)
    await _give(connection, order_id, subscriber_ref, owner, kept["customer"])
    return True


async def _read_owner(connection: TenantConnection, subscriber_ref: str) -> Any:
    row = (
        await connection.execute(
            select(subscribers.c.id, customers.c.ref.label("customer"))
            .join(customers, subscribers.c.customer_id == customers.c.id)
            .where(subscribers.c.ref == subscriber_ref, subscribers.c.archived_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        raise UnknownSubscriberError(f"Subscriber {subscriber_ref} does not exist. Check the reference and the tenant.")
    return row


async def _give(
    connection: TenantConnection, order_id: str, subscriber_ref: str, owner: Any, customer_ref: str
) -> None:
    if owner.customer == customer_ref:
        return
    # KEY SHARE: a concurrent rollback of the order that created the customer must not delete the customer.
    customer_id = await connection.scalar(
        select(customers.c.id).where(customers.c.ref == customer_ref).with_for_update(read=True, key_share=True)
    )
    if customer_id is None:
        raise RecordConflictError(f"Customer {customer_ref} was deleted while the order ran. Send the order again.")
    await connection.execute(update(subscribers).where(subscribers.c.id == owner.id).values(customer_id=customer_id))
    service = billing_services.c
    event = select(
        service.tenant_id,
        service.id,
        literal(subscriber_ref),
        literal("transferred"),
        service.plan,
        service.price_ref,
        literal(owner.customer),
        literal(customer_ref),
        literal(order_id),
    ).where(service.subscriber_id == owner.id, service.status != "ended")
    columns = ["tenant_id", "service_id", "subscriber_ref", "event", "plan", "price_ref"]
    await connection.execute(
        insert(billing_events).from_select([*columns, "previous_customer", "customer", "order_id"], event)
    )
