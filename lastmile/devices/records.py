"""The state that a line's ONU and CPE should be in, and whether a controller has confirmed it."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    PrimaryKeyConstraint,
    Table,
    Text,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from lastmile.db import TenantConnection, metadata

__all__ = ["Device", "DeviceKind", "confirm", "devices", "find", "forget", "is_shared", "restore", "want"]


class DeviceKind(StrEnum):
    ONU = "onu"
    CPE = "cpe"


devices = Table(
    "devices",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("subscriber_ref", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("wanted", Boolean, nullable=False),
    Column("confirmed", Boolean, nullable=False, server_default="false"),
    Column("created_by_order", Text, nullable=False),
    Column("updated_by_order", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("tenant_id", "subscriber_ref", "kind"),
)


@dataclass(frozen=True, slots=True)
class Device:
    """One row: what the device is, and whether it should be in service."""

    identity: str
    """The ONU's serial number or the CPE's MAC address."""
    wanted: bool
    created_by_order: str
    updated_by_order: str


async def find(connection: TenantConnection, subscriber_ref: str, kind: DeviceKind) -> Device | None:
    """The line's device of this kind, as far as an order has spoken of one."""
    columns = (devices.c.identity, devices.c.wanted, devices.c.created_by_order, devices.c.updated_by_order)
    row = (await connection.execute(select(*columns).where(_one(subscriber_ref, kind)))).one_or_none()
    return Device(*row) if row else None


async def want(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    subscriber_ref: str,
    kind: DeviceKind,
    identity: str,
    on: bool,
) -> None:
    """Record that the device should be in service, or out of it; a repetition changes nothing."""
    new = insert(devices).values(
        tenant_id=tenant,
        subscriber_ref=subscriber_ref,
        kind=kind,
        identity=identity,
        wanted=on,
        created_by_order=order_id,
        updated_by_order=order_id,
    )
    changed = or_(devices.c.wanted != new.excluded.wanted, devices.c.identity != new.excluded.identity)
    await connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant_id", "subscriber_ref", "kind"],
            set_={
                "identity": new.excluded.identity,
                "wanted": new.excluded.wanted,
                "confirmed": False,
                # Bringing a device into service that was out of it is what an undo may take back.
                "created_by_order": case(
                    (new.excluded.wanted, new.excluded.created_by_order), else_=devices.c.created_by_order
                ),
                "updated_by_order": new.excluded.updated_by_order,
                "updated_at": func.now(),
            },
            where=changed,
        )
    )


async def restore(connection: TenantConnection, order_id: str, subscriber_ref: str, kind: DeviceKind) -> bool:
    """Undo `want(..., on=False)`: in service again, if it was this order that took the device out."""
    statement = (
        update(devices)
        .where(_one(subscriber_ref, kind), devices.c.updated_by_order == order_id, ~devices.c.wanted)
        .values(wanted=True, confirmed=False, updated_at=func.now())
    )
    return (await connection.execute(statement)).rowcount > 0


async def forget(connection: TenantConnection, order_id: str, subscriber_ref: str, kind: DeviceKind) -> None:
    """Undo `want(..., on=True)`: no record, if it was this order that brought the device into service."""
    await connection.execute(delete(devices).where(_one(subscriber_ref, kind), devices.c.created_by_order == order_id))


async def is_shared(connection: TenantConnection, subscriber_ref: str, kind: DeviceKind, identity: str) -> bool:
    """Tell whether another line of the tenant wants the same device in service.

    The lock puts lines that leave one device at the same time in order: the last of them is told False.
    """
    lock = func.hashtextextended(func.current_setting("lastmile.tenant").concat(f"/{kind}/{identity}"), 0)
    await connection.execute(select(func.pg_advisory_xact_lock(lock)))
    others = (devices.c.kind == kind, devices.c.identity == identity, devices.c.subscriber_ref != subscriber_ref)
    return bool(await connection.scalar(select(exists().where(*others, devices.c.wanted))))


async def confirm(connection: TenantConnection, subscriber_ref: str, kind: DeviceKind, on: bool) -> None:
    """A controller has brought the device into this state."""
    await connection.execute(
        update(devices).where(_one(subscriber_ref, kind), devices.c.wanted == on).values(confirmed=True)
    )


def _one(subscriber_ref: str, kind: DeviceKind) -> ColumnElement[bool]:
    return and_(devices.c.subscriber_ref == subscriber_ref, devices.c.kind == kind)
