"""The personal data of former customers: name, e-mail and phone.

References are no personal data. They stay, since an ISP must be able to tell which subscriber had an address.
"""

from sqlalchemy import func, select, union

from lastmile.db import TenantConnection
from lastmile.db.audit_log import audit_log
from lastmile.subscribers.errors import CustomerInServiceError, UnknownCustomerError
from lastmile.subscribers.tables import customers, subscribers

__all__ = ["forget_customer"]

NAMED = 10
"""How many lines a message names."""


async def forget_customer(connection: TenantConnection, customer_ref: str) -> list[str]:
    """Delete the personal data of a former customer from the database, the audit log included.

    Return the subscribers that were once the customer's. A repeated call changes nothing more.

    Raises:
        UnknownCustomerError: there is no such customer.
        CustomerInServiceError: the customer has lines in service.
    """
    # An order that creates a line of the customer locks the row too: it waits for this transaction, or comes first.
    locked = select(customers.c.id).where(customers.c.ref == customer_ref).with_for_update()
    if (customer_id := await connection.scalar(locked)) is None:
        raise UnknownCustomerError(f"There is no customer {customer_ref}. Check the reference and the tenant.")
    of_customer = subscribers.c.customer_id == customer_id
    current = select(subscribers.c.ref).where(of_customer, subscribers.c.archived_at.is_(None))
    if lines := list(await connection.scalars(current.order_by(subscribers.c.ref))):
        more = f" and {len(lines) - NAMED:,} more" if len(lines) > NAMED else ""
        raise CustomerInServiceError(
            f"Customer {customer_ref} has lines in service: {', '.join(lines[:NAMED])}{more}. "
            "Deprovision or transfer them first."
        )
    entries = audit_log.c.record == "customers", audit_log.c.key == customer_ref
    once = union(
        select(subscribers.c.ref).where(of_customer),
        select(audit_log.c.subscriber_ref).where(*entries, audit_log.c.subscriber_ref.is_not(None)),
    )
    known = sorted(await connection.scalars(once))
    await connection.execute(select(func.lastmile_forget_customer(customer_ref)))
    return known
