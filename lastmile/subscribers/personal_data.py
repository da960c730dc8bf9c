"""The personal data of former customers: name, e-mail and phone, and the events of a CRM that contain them.

References are no personal data. They stay, since an ISP must be able to tell which subscriber had an address.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import except_, func, or_, select, text, union

from lastmile.db import TenantConnection
from lastmile.db.audit_log import audit_log
from lastmile.subscribers.accepted_orders import AcceptedState
from lastmile.subscribers.errors import CustomerInServiceError, UnknownCustomerError
from lastmile.subscribers.tables import accepted_orders, customers, orders, subscribers

__all__ = ["FormerSubscribers", "forget_customer", "orders_remain"]

# The reason can quote the event.
_FORGET_EVENTS = text(
    """
    UPDATE hook_events SET state = CASE WHEN state = 'ordered' THEN state ELSE 'ignored' END,
        reason = CASE WHEN state <> 'ordered' THEN 'The personal data of the customer was deleted.' END,
        key_name = NULL, body = NULL
    WHERE customer_ref = :customer OR (customer_ref IS NULL AND subscriber_ref = ANY(:subscribers))
    """
)
NAMED = 10
"""How many lines, or orders, a message names."""


@dataclass(frozen=True, slots=True)
class FormerSubscribers:
    """The subscribers of a former customer."""

    once: list[str]
    """Those that were once the customer's, or should have been by an order. Their runs have the data."""
    unclaimed: list[str]
    """Those that were the customer's last, and are no other customer's. A further order of them is the customer's."""


async def forget_customer(connection: TenantConnection, customer_ref: str) -> FormerSubscribers:
    """Delete the personal data of a former customer from the database, the audit log included.

    A repeated call changes nothing more.

    Raises:
        UnknownCustomerError: there is no such customer.
        CustomerInServiceError: the customer has lines in service, or orders that have not ended.
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
    last = select(subscribers.c.ref).where(of_customer)
    once = union(
        last,
        select(audit_log.c.subscriber_ref).where(*entries, audit_log.c.subscriber_ref.is_not(None)),
        select(orders.c.subscriber_ref).where(orders.c.customer_ref == customer_ref),
    )
    others = select(subscribers.c.ref).where(subscribers.c.ref.in_(last), subscribers.c.archived_at.is_(None))
    unclaimed = sorted(await connection.scalars(except_(last, others)))
    # Such an order has the personal data, and would bring it back.
    unended = union(
        select(orders.c.order_id).where(
            orders.c.customer_ref == customer_ref, func.lastmile_order_unfinished(orders.c.status)
        ),
        select(accepted_orders.c.order_id).where(
            accepted_orders.c.state.in_([AcceptedState.WAITING, AcceptedState.SCHEDULED]),
            or_(accepted_orders.c.customer_ref == customer_ref, accepted_orders.c.subscriber_ref.in_(unclaimed)),
        ),
    )
    if found := sorted(await connection.scalars(unended)):
        raise orders_remain(customer_ref, found)
    known = sorted(await connection.scalars(once))
    await connection.execute(select(func.lastmile_forget_customer(customer_ref)))
    await connection.execute(_FORGET_EVENTS, {"customer": customer_ref, "subscribers": known})
    return FormerSubscribers(known, unclaimed)


def orders_remain(customer_ref: str, order_ids: Sequence[str]) -> CustomerInServiceError:
    """Return the refusal to forget a customer while these orders of the customer wait or run."""
    return CustomerInServiceError(
        f"Customer {customer_ref} has orders that have not ended: {_name(order_ids)}. Cancel them first, or wait for "
        "their end."
    )


def _name(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
