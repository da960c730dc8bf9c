"""The target state of a line's ONU and CPE, and whether a controller has confirmed it."""

from dataclasses import asdict, dataclass, fields
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
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from lastmile.db import TenantConnection, metadata
from lastmile.db.direct import DirectStatement

__all__ = [
    "Device",
    "DeviceKind",
    "delete_device",
    "devices",
    "find_device",
    "is_shared",
    "replace_device",
    "restore_device",
    "restore_service",
    "set_target_state",
]


class DeviceKind(StrEnum):
    """The kind of a device."""

    ONU = "onu"
    CPE = "cpe"


devices = Table(
    "devices",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("subscriber_ref", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("in_service", Boolean, nullable=False),
    Column("confirmed", Boolean, nullable=False, server_default="false"),
    Column("created_by_order", Text, nullable=False),
    Column("updated_by_order", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("tenant_id", "subscriber_ref", "kind"),
)


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its target state."""

    identity: str
    """The ONU's serial number or the CPE's MAC address."""
    in_service: bool
    """Whether the device should be in service."""
    created_by_order: str
    updated_by_order: str
    confirmed: bool = False
    """Whether a controller has brought the device into that state."""


_is_device = and_(devices.c.subscriber_ref == bindparam("subscriber_ref"), devices.c.kind == bindparam("kind"))
_FIND = DirectStatement(select(*(devices.c[field.name] for field in fields(Device))).where(_is_device))
_SET_TARGET_STATE = DirectStatement(
    # The order that puts an existing device back into service owns the record: its rollback deletes it. A pending call
    # follows the state, also where no controller is asked now: its controller may come back.
    """
    WITH turned AS (
        UPDATE pending_device_calls SET switches_on = :in_service, version = version + 1
        WHERE subscriber_ref = :subscriber_ref AND kind = :kind AND identity = :identity
          AND switches_on <> :in_service
    )
    INSERT INTO devices (tenant_id, subscriber_ref, kind, identity, in_service, created_by_order, updated_by_order)
    VALUES (:tenant_id, :subscriber_ref, :kind, :identity, :in_service, :order_id, :order_id)
    ON CONFLICT (tenant_id, subscriber_ref, kind) DO UPDATE
    SET identity = excluded.identity, in_service = excluded.in_service, confirmed = false,
        created_by_order = CASE WHEN excluded.in_service THEN excluded.created_by_order
                                ELSE devices.created_by_order END,
        updated_by_order = excluded.updated_by_order, updated_at = now()
    WHERE (devices.in_service, devices.identity) <> (excluded.in_service, excluded.identity)
    """
)
_DELETE = DirectStatement(delete(devices).where(_is_device, devices.c.created_by_order == bindparam("order_id")))


async def find_device(connection: TenantConnection, subscriber_ref: str, kind: DeviceKind) -> Device | None:
    """Return the line's device of this kind; None if no order has named one."""
    row = await _FIND.one_or_none(connection, {"subscriber_ref": subscriber_ref, "kind": kind})
    return Device(**row._asdict()) if row else None


async def set_target_state(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    subscriber_ref: str,
    kind: DeviceKind,
    identity: str,
    on: bool,
) -> None:
    """Record whether the device should be in service (`on`). A repeated call changes nothing."""
    values = {
        "tenant_id": tenant,
        "subscriber_ref": subscriber_ref,
        "kind": kind,
        "identity": identity,
        "in_service": on,
        "order_id": order_id,
    }
    await _SET_TARGET_STATE.count(connection, values)


async def replace_device(
    connection: TenantConnection, tenant: str, order_id: str, subscriber_ref: str, kind: DeviceKind, identity: str
) -> None:
    """Record that the line has this device, in the state of the one before. A first device should be in service."""
    new = insert(devices).values(
        tenant_id=tenant,
        subscriber_ref=subscriber_ref,
        kind=kind,
        identity=identity,
        in_service=True,
        created_by_order=order_id,
        updated_by_order=order_id,
    )
    await connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant_id", "subscriber_ref", "kind"],
            set_={
                "identity": new.excluded.identity,
                "confirmed": False,
                "updated_by_order": new.excluded.updated_by_order,
                "updated_at": func.now(),
            },
        )
    )


async def restore_device(
    connection: TenantConnection, subscriber_ref: str, kind: DeviceKind, before: Device | None
) -> None:
    """Undo `replace_device`: record the device that the line had; None: it had none."""
    this = _matches(subscriber_ref, kind)
    if before is None:
        await connection.execute(delete(devices).where(this))
    else:
        await connection.execute(update(devices).where(this).values(**asdict(before), updated_at=func.now()))


async def restore_service(connection: TenantConnection, order_id: str, subscriber_ref: str, kind: DeviceKind) -> bool:
    """Undo `set_target_state(..., on=False)` if this order took the device out of service."""
    statement = (
        update(devices)
        .where(_matches(subscriber_ref, kind), devices.c.updated_by_order == order_id, ~devices.c.in_service)
        .values(in_service=True, confirmed=False, updated_at=func.now())
    )
    return (await connection.execute(statement)).rowcount > 0


async def delete_device(connection: TenantConnection, order_id: str, subscriber_ref: str, kind: DeviceKind) -> None:
    """Undo `set_target_state(..., on=True)`: delete the record if this order brought the device into service."""
    await _DELETE.count(connection, {"subscriber_ref": subscriber_ref, "kind": kind, "order_id": order_id})


async def is_shared(connection: TenantConnection, subscriber_ref: str, kind: DeviceKind, identity: str) -> bool:
    """Return whether another line of the tenant should have the same device in service.

    The advisory lock serialises lines that leave one device at the same time. So the last of them gets False, and
    switches the device off.
    """
    lock = func.hashtextextended(func.current_setting("lastmile.tenant").concat(f"/{kind}/{identity}"), 0)
    await connection.execute(select(func.pg_advisory_xact_lock(lock)))
    others = (devices.c.kind == kind, devices.c.identity == identity, devices.c.subscriber_ref != subscriber_ref)
    return bool(await connection.scalar(select(exists().where(*others, devices.c.in_service))))


def _matches(subscriber_ref: str, kind: DeviceKind) -> ColumnElement[bool]:
    return and_(devices.c.subscriber_ref == subscriber_ref, devices.c.kind == kind)
