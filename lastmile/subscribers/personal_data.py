"""The personal data of former customers: name, e-mail and phone.

References are no personal data. They stay, since an ISP must be able to tell which subscriber had an address.
"""

from collections.abc import Sequence

from sqlalchemy import func, or_, select, union

from lastmile.db import TenantConnection
from lastmile.db.audit_log import audit_log
from lastmile.subscribers.accepted_orders import AcceptedState
from lastmile.subscribers.errors import CustomerInServiceError, UnknownCustomerError
from lastmile.subscribers.tables import accepted_orders, customers, subscribers

__all__ = ["forget_customer", "orders_wait"]

NAMED = 10
"""How many lines, or orders, a message names."""


async def forget_customer(connection: TenantConnection, customer_ref: str) -> list[str]:
    """Delete the personal data of a former customer from the database, the audit log included.

    Return the subscribers that were once the customer's. A repeated call changes nothing more.

    Raises:
        UnknownCustomerError: there is no such customer.
        CustomerInServiceError: the customer has lines in service, or an accepted order of the customer waits.
    """
    # An order that creates a line of the customer locks the row too: it waits for this transaction, or comes first.
    locked = select(customers.c.id).where(customers.c.ref == customer_ref).with_for_update()
    if (customer_id := await connection.scalar(locked)) is None:
        raise UnknownCustomerError(f"There is no customer {customer_ref}. Check the reference and the tenant.")
    of_customer = subscribers.c.customer_id == customer_id
    current = select(subscribers.c.ref).where(of_customer, subscribers.c.archived_at.is_(None))
    if lines := list(await connection.scalars(current.order_by(subscribers.c.ref))):
        raise CustomerInServiceError(
            f"Customer {customer_ref} has lines in service: {_name(lines)}. Deprovision or transfer them first."
        )
    entries = audit_log.c.record == "customers", audit_log.c.key == customer_ref
    once = union(
        select(subscribers.c.ref).where(of_customer),
        select(audit_log.c.subscriber_ref).where(*entries, audit_log.c.subscriber_ref.is_not(None)),
    )
    known = sorted(await connection.scalars(once))
    # The body of such an order has the personal data, and the order would bring it back.
    waiting = select(accepted_orders.c.order_id).where(
        accepted_orders.c.state.in_([AcceptedState.WAITING, AcceptedState.SCHEDULED]),
        or_(accepted_orders.c.customer_ref == customer_ref, accepted_orders.c.subscriber_ref.in_(known)),
    )
    if orders := list(await connection.scalars(waiting.order_by(accepted_orders.c.accepted_at))):
        raise orders_wait(customer_ref, orders)
    await connection.execute(select(func.lastmile_forget_customer(customer_ref)))
    return known


def orders_wait(customer_ref: str, order_ids: Sequence[str]) -> CustomerInServiceError:
    """Return the refusal to forget a customer while these orders of the customer wait."""
    return CustomerInServiceError(
        f"Customer {customer_ref} has orders that wait to start: {_name(order_ids)}. Cancel them first, or wait until "
        "they have ended."
    )


def _name(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
