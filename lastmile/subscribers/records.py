"""The records of customers, subscribers and network profiles. Only the order that created a record undoes it.

Every `create_*` function returns the record of an earlier attempt, and raises `RecordConflictError` if the existing
record differs. Every `delete_*` function succeeds if there is nothing to delete.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from lastmile.contract.lines import Customer, Line
from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.fields.stored import STORED
from lastmile.subscribers.differences import differing_customer_fields
from lastmile.subscribers.errors import RecordConflictError, UnknownSubscriberError
from lastmile.subscribers.line_conflicts import line_conflict
from lastmile.subscribers.tables import customers, network_profiles, subscribers

__all__ = [
    "CreatedRecord",
    "archive_subscriber",
    "create_customer",
    "create_network_profile",
    "create_subscriber",
    "customer_notes",
    "delete_customer",
    "delete_network_profile",
    "delete_subscriber",
    "lock_customer",
    "read_line",
    "read_subscriber",
    "restore_customer",
    "update_customer",
]


@dataclass(frozen=True, slots=True)
class CreatedRecord:
    """The id of a record, and the order that created it."""

    id: str
    created_by_order: str
    differs_in: tuple[str, ...] = ()
    """The fields in which an existing record differs from the order."""


def _create(table: Table, *columns: str) -> DirectStatement:
    """Return the statement that inserts a row, and returns nothing where a unique constraint refuses the row."""
    names = ("tenant_id", "created_by_order", *columns)
    return DirectStatement(
        insert(table)
        .values({name: bindparam(name) for name in names})
        .on_conflict_do_nothing()
        .returning(table.c.id, table.c.created_by_order)
    )


_ALL_WITH_REF = select(subscribers.c.id).where(subscribers.c.ref == bindparam("ref"))
_CURRENT = _ALL_WITH_REF.where(subscribers.c.archived_at.is_(None))

_CREATE_CUSTOMER = _create(customers, *Customer.model_fields)
_CREATE_SUBSCRIBER = _create(subscribers, "ref", "customer_id")
_CREATE_NETWORK_PROFILE = _create(network_profiles, "subscriber_id", *Line.model_fields)

# KEY SHARE: a concurrent rollback of the order that created the customer must not delete the customer.
_KEEP_CUSTOMER = DirectStatement(
    select(customers.c.id).where(customers.c.ref == bindparam("ref")).with_for_update(read=True, key_share=True)
)
_CUSTOMERS_OF_ORDER = DirectStatement(
    select(customers.c.id, customers.c.ref)
    .where(customers.c.created_by_order == bindparam("order_id"))
    .with_for_update()
)
_HEIR = (
    select(subscribers.c.created_by_order)
    .where(subscribers.c.customer_id == customers.c.id)
    .order_by(subscribers.c.created_at)
    .limit(1)
    .scalar_subquery()
)
_DELETE_CUSTOMER_WITHOUT_LINES = DirectStatement(
    delete(customers).where(customers.c.id == bindparam("customer_id"), _HEIR.is_(None))
)
# KEY SHARE: a concurrent rollback of the order that created the customer waits, and then sees that the line is gone.
# Otherwise it would give the customer to this order, whose rollback has already looked for customers of its own.
_DELETE_SUBSCRIBER = DirectStatement(
    """
    WITH owner AS MATERIALIZED (
        SELECT c.id FROM subscribers s JOIN customers c ON c.id = s.customer_id
        WHERE s.ref = :ref AND s.created_by_order = :order_id
        FOR KEY SHARE OF c
    )
    DELETE FROM subscribers
    WHERE ref = :ref AND created_by_order = :order_id AND customer_id IN (SELECT id FROM owner)
    """
)
_READ_SUBSCRIBER = DirectStatement(
    _ALL_WITH_REF.add_columns(
        subscribers.c.created_by_order, subscribers.c.archived_at, subscribers.c.archived_by_order
    )
    .order_by(subscribers.c.archived_at.desc().nulls_first())
    .limit(1)
)
_ARCHIVE_SUBSCRIBER = DirectStatement(
    update(subscribers)
    .where(subscribers.c.ref == bindparam("ref"), subscribers.c.archived_at.is_(None))
    .values(archived_at=func.now(), archived_by_order=bindparam("order_id"), archive_reason=bindparam("reason"))
)
_DELETE_NETWORK_PROFILE = DirectStatement(
    delete(network_profiles).where(network_profiles.c.subscriber_id.in_(_ALL_WITH_REF))
)
_UNDO_NETWORK_PROFILE = DirectStatement(
    delete(network_profiles).where(
        network_profiles.c.subscriber_id.in_(_CURRENT),
        network_profiles.c.created_by_order == bindparam("order_id"),
    )
)
_READ_LINE = DirectStatement(
    select(*(network_profiles.c[field] for field in Line.model_fields)).where(
        network_profiles.c.subscriber_id.in_(_CURRENT)
    )
)


async def create_customer(
    connection: TenantConnection, tenant: str, order_id: str, customer: Customer
) -> CreatedRecord:
    """Create the customer, or return the existing one with the fields that differ.

    An existing customer stays unchanged: an order for a line must not rename a customer.
    """
    values = {"tenant_id": tenant, "created_by_order": order_id, **customer.model_dump()}
    if made := await _CREATE_CUSTOMER.one_or_none(connection, values):
        return CreatedRecord(made.id, made.created_by_order)
    row = (await connection.execute(select(customers).where(customers.c.ref == customer.ref))).one()
    return CreatedRecord(row.id, row.created_by_order, tuple(differing_customer_fields(row, customer)))


def customer_notes(record: CreatedRecord, customer: Customer) -> list[str]:
    """List the fields in which a known customer differs from the order. Values are personal data: the list has none."""
    return [
        f"customer.{field}: customer {customer.ref} exists with another {field}, which the order did not change"
        for field in record.differs_in
    ]


async def delete_customer(connection: TenantConnection, order_id: str, *, stays: str | None = None) -> bool:
    """Delete the customer that this order created, if any, and the customer of a lost order that it took over.

    The customer with the reference `stays` stays.

    If another order has added a line to the customer since, the customer stays, and then belongs to that order.
    """
    # Waits for another order that adds a line at this moment: the next statement sees the line.
    made = await _CUSTOMERS_OF_ORDER.all(connection, {"order_id": order_id})
    return any([await _delete_unused(connection, str(customer.id)) for customer in made if customer.ref != stays])


async def _delete_unused(connection: TenantConnection, customer_id: str) -> bool:
    """Delete the customer, or give it to the order of its first line."""
    if await _DELETE_CUSTOMER_WITHOUT_LINES.count(connection, {"customer_id": customer_id}):
        return True
    await connection.execute(update(customers).where(customers.c.id == customer_id).values(created_by_order=_HEIR))
    return False


async def update_customer(
    connection: TenantConnection, subscriber_ref: str, corrections: Mapping[str, str | None]
) -> tuple[str, dict[str, str | None]]:
    """Correct fields of the subscriber's customer. Return the customer's id, and the values before.

    Raises:
        UnknownSubscriberError: the subscriber does not exist.
    """
    row = await lock_customer(connection, subscriber_ref)
    await connection.execute(update(customers).where(customers.c.id == row.id).values(corrections))
    return row.id, {field: getattr(row, field) for field in corrections}


async def lock_customer(connection: TenantConnection, subscriber_ref: str) -> Row[Any]:
    """Return the subscriber's customer. No other transaction changes the customer until this one ends.

    Raises:
        UnknownSubscriberError: the subscriber does not exist, or is archived.
    """
    owner = select(subscribers.c.customer_id).where(
        subscribers.c.ref == subscriber_ref, subscribers.c.archived_at.is_(None)
    )
    found = await connection.execute(
        select(customers).where(customers.c.id == owner.scalar_subquery()).with_for_update(key_share=True)
    )
    if (row := found.one_or_none()) is None:
        raise UnknownSubscriberError(f"Subscriber {subscriber_ref} does not exist. Check the reference and the tenant.")
    return row


async def restore_customer(
    connection: TenantConnection, customer_id: str, before: Mapping[str, str | None], after: Mapping[str, str]
) -> None:
    """Undo `update_customer`. A field that another line's order has corrected since keeps that correction."""
    for field, value in before.items():
        column = customers.c[field]
        await connection.execute(
            update(customers).where(customers.c.id == customer_id, column == after[field]).values({field: value})
        )


async def create_subscriber(
    connection: TenantConnection, tenant: str, order_id: str, ref: str, customer_ref: str
) -> CreatedRecord:
    """Create the subscriber, or return the current subscriber with this reference.

    Raises:
        RecordConflictError: the subscriber belongs to another customer, or the customer was deleted meanwhile.
    """
    customer_id = await _KEEP_CUSTOMER.scalar(connection, {"ref": customer_ref})
    if customer_id is None:
        raise RecordConflictError(f"Customer {customer_ref} was deleted while the order ran. Send the order again.")
    values = {"tenant_id": tenant, "ref": ref, "customer_id": customer_id, "created_by_order": order_id}
    if made := await _CREATE_SUBSCRIBER.one_or_none(connection, values):
        return CreatedRecord(made.id, made.created_by_order)
    row = (
        await connection.execute(
            select(subscribers.c.id, subscribers.c.created_by_order, customers.c.ref.label("owner"))
            .join(customers, subscribers.c.customer_id == customers.c.id)
            .where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None))
        )
    ).one()
    if row.owner != customer_ref:
        raise RecordConflictError(f"subscriber {ref} belongs to customer {row.owner}, not to {customer_ref}")
    return CreatedRecord(row.id, row.created_by_order)


async def delete_subscriber(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Delete the subscriber if this order created it.

    Raises:
        RecordConflictError: a network profile or a billing service refers to the subscriber.
    """
    try:
        return await _DELETE_SUBSCRIBER.count(connection, {"ref": ref, "order_id": order_id}) > 0
    except IntegrityError as failure:
        raise RecordConflictError(
            f"Subscriber {ref} still has a network profile or a billing service. Remove those first."
        ) from failure


async def read_subscriber(connection: TenantConnection, ref: str, archiving: str | None = None) -> CreatedRecord:
    """Return the current subscriber, or the one that the order `archiving` has archived.

    Raises:
        UnknownSubscriberError: the subscriber does not exist, or another order has archived it.
    """
    row = await _READ_SUBSCRIBER.one_or_none(connection, {"ref": ref})
    if row is None:
        raise UnknownSubscriberError(f"Subscriber {ref} does not exist. Check the reference and the tenant.")
    if row.archived_at is not None and row.archived_by_order != archiving:
        raise UnknownSubscriberError(
            f"Subscriber {ref} was deprovisioned on {row.archived_at:%Y-%m-%d %H:%M %Z} and has no line any more."
        )
    return CreatedRecord(row.id, row.created_by_order)


async def archive_subscriber(connection: TenantConnection, ref: str, order_id: str, reason: str) -> bool:
    """Archive the subscriber. The record stays for the history, and its reference can be used again."""
    values = {"ref": ref, "order_id": order_id, "reason": reason}
    return await _ARCHIVE_SUBSCRIBER.count(connection, values) > 0


async def create_network_profile(
    connection: TenantConnection, tenant: str, order_id: str, subscriber: CreatedRecord, line: Line
) -> CreatedRecord:
    """Create the network profile.

    Raises:
        RecordConflictError: the subscriber has another profile, or another line has a resource that cannot be shared.
    """
    values = {
        "tenant_id": tenant,
        "subscriber_id": subscriber.id,
        "created_by_order": order_id,
        **line.model_dump(),
    }
    if made := await _CREATE_NETWORK_PROFILE.one_or_none(connection, values):
        return CreatedRecord(made.id, made.created_by_order)
    row = (
        await connection.execute(select(network_profiles).where(network_profiles.c.subscriber_id == subscriber.id))
    ).one_or_none()
    if row is None:
        raise await line_conflict(connection, line)
    if differing := [field for field, value in line.model_dump().items() if getattr(row, field) != value]:
        raise RecordConflictError(
            f"The subscriber has a network profile with another {', '.join(differing)}. "
            "Deprovision the subscriber first, or send an order with the values of the profile."
        )
    return CreatedRecord(row.id, row.created_by_order)


async def delete_network_profile(connection: TenantConnection, ref: str, order_id: str | None = None) -> bool:
    """Delete the subscriber's profile; with `order_id`, only the current one, and only if that order created it.

    Without `order_id` also the profile of an archived subscriber, which an operator's decision can have left.
    """
    if order_id is None:
        return await _DELETE_NETWORK_PROFILE.count(connection, {"ref": ref}) > 0
    return await _UNDO_NETWORK_PROFILE.count(connection, {"ref": ref, "order_id": order_id}) > 0


async def read_line(connection: TenantConnection, ref: str) -> Line | None:
    """Return the current subscriber's line; None without a network profile."""
    row = await _READ_LINE.one_or_none(connection, {"ref": ref})
    return Line.model_validate(row._asdict(), context=STORED) if row else None
