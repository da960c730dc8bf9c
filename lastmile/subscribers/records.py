"""Customers, subscribers and network profiles: made once, undone only by the order that made them.

Every `create_*` is content with the record that an earlier attempt made, and raises `RecordConflictError` where the one
that exists says something else. Every `delete_*` is content where there is nothing to delete.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Delete, Table, Update, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from lastmile.contract.lines import ConnectionType, Customer, Line, Option82Policy
from lastmile.db import TenantConnection
from lastmile.fields.stored import STORED
from lastmile.subscribers.differences import customer_fields
from lastmile.subscribers.errors import RecordConflictError, UnknownSubscriberError
from lastmile.subscribers.tables import customers, network_profiles, subscribers

__all__ = [
    "CreatedRecord",
    "archive_subscriber",
    "create_customer",
    "create_network_profile",
    "create_subscriber",
    "current_subscriber",
    "customer_notes",
    "delete_customer",
    "delete_network_profile",
    "delete_subscriber",
    "line_of",
]


@dataclass(frozen=True, slots=True)
class CreatedRecord:
    """A record's id, and the order that made it."""

    id: str
    created_by_order: str
    differs_in: tuple[str, ...] = ()
    """The fields in which the record that was found is another than the order says."""


async def create_customer(
    connection: TenantConnection, tenant: str, order_id: str, customer: Customer
) -> CreatedRecord:
    """The customer of this reference. One that exists is left as it is: an order is no way to rename somebody."""
    values = {"tenant_id": tenant, "created_by_order": order_id, **customer.model_dump()}
    if made := await _insert(connection, customers, values):
        return made
    row = (await connection.execute(select(customers).where(customers.c.ref == customer.ref))).one()
    return CreatedRecord(row.id, row.created_by_order, tuple(customer_fields(row, customer)))


def customer_notes(record: CreatedRecord, customer: Customer) -> list[str]:
    """List the fields in which a known customer differs from the order. Values are personal data: the list has none."""
    return [
        f"customer.{field}: customer {customer.ref} exists with another {field}, which the order did not change"
        for field in record.differs_in
    ]


async def delete_customer(connection: TenantConnection, order_id: str) -> bool:
    """Remove the customer that this order created, if it created one.

    Where another order has added a line to the customer since, the customer stays and becomes that order's.
    """
    mine = customers.c.created_by_order == order_id
    heir = (
        select(subscribers.c.created_by_order)
        .where(subscribers.c.customer_id == customers.c.id)
        .order_by(subscribers.c.created_at)
        .limit(1)
        .scalar_subquery()
    )
    if await _changed(connection, delete(customers).where(mine, heir.is_(None))):
        return True
    await connection.execute(update(customers).where(mine, heir.is_not(None)).values(created_by_order=heir))
    return False


async def create_subscriber(
    connection: TenantConnection, tenant: str, order_id: str, ref: str, customer_ref: str
) -> CreatedRecord:
    """The current subscriber of this reference. Raises `RecordConflictError` where it belongs to another customer."""
    # KEY SHARE: the undo of the order that created the customer must not remove it under our feet.
    customer_id = await connection.scalar(
        select(customers.c.id).where(customers.c.ref == customer_ref).with_for_update(read=True, key_share=True)
    )
    if customer_id is None:
        raise RecordConflictError(f"customer {customer_ref} was removed while the order ran: send it again")
    values = {"tenant_id": tenant, "ref": ref, "customer_id": customer_id, "created_by_order": order_id}
    if made := await _insert(connection, subscribers, values):
        return made
    row = (
        await connection.execute(
            _record(subscribers)
            .add_columns(customers.c.ref.label("owner"))
            .join(customers, subscribers.c.customer_id == customers.c.id)
            .where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None))
        )
    ).one()
    if row.owner != customer_ref:
        raise RecordConflictError(f"subscriber {ref} belongs to customer {row.owner}, not to {customer_ref}")
    return CreatedRecord(row.id, row.created_by_order)


async def delete_subscriber(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Remove a subscriber that this order created. Raises `RecordConflictError` if a line or a service needs it."""
    mine = delete(subscribers).where(subscribers.c.ref == ref, subscribers.c.created_by_order == order_id)
    try:
        return await _changed(connection, mine)
    except IntegrityError as failure:
        raise RecordConflictError(
            f"subscriber {ref} still has a network profile or a billing service: remove that first"
        ) from failure


async def current_subscriber(connection: TenantConnection, ref: str, archiving: str | None = None) -> CreatedRecord:
    """The subscriber as it is now, or as the order `archiving` left it.

    Raises `UnknownSubscriberError` where there is none, or only one that another order has archived.
    """
    row = (
        await connection.execute(
            _record(subscribers)
            .add_columns(subscribers.c.archived_at, subscribers.c.archived_by_order)
            .where(subscribers.c.ref == ref)
            .order_by(subscribers.c.archived_at.desc().nulls_first())
            .limit(1)
        )
    ).one_or_none()
    if row is None:
        raise UnknownSubscriberError(f"there is no subscriber {ref}: check the reference and the tenant")
    if row.archived_at is not None and row.archived_by_order != archiving:
        raise UnknownSubscriberError(
            f"subscriber {ref} was deprovisioned on {row.archived_at:%Y-%m-%d %H:%M %Z}: there is no line to work on"
        )
    return CreatedRecord(row.id, row.created_by_order)


async def archive_subscriber(connection: TenantConnection, ref: str, order_id: str, reason: str) -> bool:
    """Close the subscriber's record. It stays for the history; its reference can be used again."""
    return await _changed(
        connection,
        update(subscribers)
        .where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None))
        .values(archived_at=func.now(), archived_by_order=order_id, archive_reason=reason),
    )


async def create_network_profile(
    connection: TenantConnection, tenant: str, order_id: str, subscriber: CreatedRecord, line: Line
) -> CreatedRecord:
    """Create the network profile. Raises `RecordConflictError` for another profile or a part of another line."""
    values = {
        "tenant_id": tenant,
        "subscriber_id": subscriber.id,
        "created_by_order": order_id,
        **line.model_dump(),
    }
    if made := await _insert(connection, network_profiles, values):
        return made
    row = (
        await connection.execute(select(network_profiles).where(network_profiles.c.subscriber_id == subscriber.id))
    ).one_or_none()
    if row is None:
        raise await _line_taken(connection, line)
    if differing := [field for field, value in line.model_dump().items() if getattr(row, field) != value]:
        raise RecordConflictError(
            f"the subscriber has a network profile with another {', '.join(differing)}: "
            "deprovision it first, or send what is there"
        )
    return CreatedRecord(row.id, row.created_by_order)


async def delete_network_profile(connection: TenantConnection, ref: str, order_id: str | None = None) -> bool:
    """Remove the current subscriber's profile; with `order_id` only if that order created it."""
    mine = select(subscribers.c.id).where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None))
    statement = delete(network_profiles).where(network_profiles.c.subscriber_id.in_(mine))
    if order_id is not None:
        statement = statement.where(network_profiles.c.created_by_order == order_id)
    return await _changed(connection, statement)


async def line_of(connection: TenantConnection, ref: str) -> Line | None:
    """The current subscriber's line, or None where it has no network profile."""
    columns = [network_profiles.c[field] for field in Line.model_fields]
    row = (
        await connection.execute(
            select(*columns)
            .join(subscribers, network_profiles.c.subscriber_id == subscribers.c.id)
            .where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None))
        )
    ).one_or_none()
    return Line.model_validate(row._asdict(), context=STORED) if row else None


async def _line_taken(connection: TenantConnection, line: Line) -> RecordConflictError:
    """Name what the line would share with another, which the database refused."""
    found = []
    for same, words in _shared_by_none(line):
        owner = (
            select(subscribers.c.ref)
            .join(network_profiles, network_profiles.c.subscriber_id == subscribers.c.id)
            .where(*same)
            .limit(1)
        )
        if ref := await connection.scalar(owner):
            found.append(words.format(f"subscriber {ref}'s line"))
    return RecordConflictError("; ".join(found) or "the network profile changed while the order ran: send it again")


def _shared_by_none(line: Line) -> Iterator[tuple[list[ColumnElement[bool]], str]]:
    """The condition for each thing that one line has, as the database's constraints say it, and the words for it."""
    other = network_profiles.c
    # Only what the line has: `== None` is IS NULL, and would find any line without it.
    if line.onu_serial is not None:
        shareable = line.connection_type is ConnectionType.FTTB
        exclusive = [other.connection_type != ConnectionType.FTTB] if shareable else []
        words = f"line.onu_serial: ONU {line.onu_serial} is on {{}} already"
        yield [other.onu_serial == line.onu_serial, *exclusive], f"{words}, and only fttb lines share an ONU"
    if line.cpe_mac is not None:
        yield [other.cpe_mac == line.cpe_mac], f"line.cpe_mac: CPE {line.cpe_mac} is on {{}} already"
    port = [line.olt, line.pon_port, line.s_vlan, line.c_vlan]
    if None not in port:
        columns = [other.olt, other.pon_port, other.s_vlan, other.c_vlan]
        words = f"line.c_vlan: S-VLAN {line.s_vlan} and C-VLAN {line.c_vlan} on port {line.pon_port} of OLT {line.olt}"
        yield [column == value for column, value in zip(columns, port, strict=True)], f"{words} are {{}} already"
    if line.circuit_id is not None and line.option82_policy is Option82Policy.ENFORCE:
        circuit = line.circuit_id.replace("{", "{{").replace("}", "}}")
        words = f"line.circuit_id: {circuit!r} is the circuit id of {{}} already, and both lines enforce it"
        yield [other.circuit_id == line.circuit_id, other.option82_policy == Option82Policy.ENFORCE], words


def _record(table: Table) -> Any:
    return select(table.c.id, table.c.created_by_order)


async def _insert(connection: TenantConnection, table: Table, values: dict[str, Any]) -> CreatedRecord | None:
    """The new record, or None where a unique constraint says there is one."""
    statement = insert(table).values(values).on_conflict_do_nothing().returning(table.c.id, table.c.created_by_order)
    row = (await connection.execute(statement)).one_or_none()
    return CreatedRecord(row.id, row.created_by_order) if row else None


async def _changed(connection: TenantConnection, statement: Delete | Update) -> bool:
    return (await connection.execute(statement)).rowcount > 0
