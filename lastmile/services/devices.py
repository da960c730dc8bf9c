"""The ONUs and CPEs of subscribers: the state that each should be in, and what it waits for."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from lastmile.db import Database
from lastmile.devices.pending_calls import hasten_calls
from lastmile.errors import NonRetryableError

__all__ = ["DeviceState", "DropRefusedError", "drop_device_call", "list_devices", "retry_devices"]

_LIST = text(
    """
    SELECT tenant_id AS tenant, subscriber_ref, kind, identity, coalesce(p.switches_on, d.in_service) AS in_service,
           p.since IS NULL AND d.confirmed AS confirmed, p.since, coalesce(p.waits_for, '') AS waits_for,
           coalesce(p.error, '') AS error, p.due_at AS next_try_at
    FROM devices d
    FULL JOIN (SELECT * FROM pending_device_calls WHERE NOT is_check) p
         USING (tenant_id, subscriber_ref, kind, identity)
    WHERE (CAST(:tenant AS text) IS NULL OR tenant_id = :tenant)
      AND CASE WHEN CAST(:subscriber AS text) IS NULL THEN (p.waits_for <> '' OR p.error <> '' OR p.due_at <= now())
               ELSE subscriber_ref = :subscriber END
    ORDER BY p.since, tenant_id, subscriber_ref, kind DESC, identity
    """
)

_RUNNING = text(
    "SELECT order_id FROM orders WHERE subscriber_ref = :subscriber_ref AND lastmile_order_unfinished(status) LIMIT 1"
)
_DROP = text("SELECT lastmile_drop_device_call(:subscriber_ref, :identity, :by, :why)")


class DropRefusedError(NonRetryableError):
    """The pending call cannot be ended: there is none, or an order of the subscriber runs."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device of a subscriber."""

    tenant: str
    subscriber_ref: str
    kind: str
    """`onu` or `cpe`."""
    identity: str
    in_service: bool
    """Whether the device should be in service."""
    confirmed: bool
    """Whether a controller has brought the device into that state. Without a controller: False."""
    since: datetime | None
    """When the device began to wait; None: it does not wait."""
    waits_for: str
    """What the device waits for; empty: nothing."""
    error: str
    """Why the last call to the controller failed; empty: it has answered."""
    next_try_at: datetime | None
    """When the controller is asked again."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def list_devices(database: Database, tenant: str | None, subscriber_ref: str | None) -> list[DeviceState]:
    """Return the devices of a subscriber; without one, every device that waits, the longest waiting first."""
    async with database.platform() as connection:
        rows = await connection.execute(_LIST, {"tenant": tenant, "subscriber": subscriber_ref})
        return [DeviceState(**row._mapping) for row in rows]


async def retry_devices(database: Database, tenant: str, subscriber_ref: str) -> int:
    """Let the reconciler ask the controllers of the subscriber's waiting devices now; return how many devices wait."""
    async with database.tenant(tenant) as connection:
        return await hasten_calls(connection, subscriber_ref)


async def drop_device_call(
    database: Database, tenant: str, subscriber_ref: str, identity: str, *, by: str, why: str, actor: str
) -> None:
    """End the pending call of a device that will never follow: it is asked no more, and stays unconfirmed.

    Raises:
        DropRefusedError: an order of the subscriber runs, which may be making the call, or the device does not wait.
    """
    subscriber = {"subscriber_ref": subscriber_ref}
    async with database.tenant(tenant, actor=actor) as connection:
        if order := await connection.scalar(_RUNNING, subscriber):
            raise DropRefusedError(
                f"Order {order} of subscriber {subscriber_ref} is running, and may ask for the device. Wait for its "
                f"end, or decide it: `lastmile status {subscriber_ref}`."
            )
        if not await connection.scalar(_DROP, subscriber | {"identity": identity, "by": by, "why": why}):
            raise DropRefusedError(
                f"Device {identity} of subscriber {subscriber_ref} does not wait: `lastmile devices {subscriber_ref}` "
                "lists the devices as they must be named."
            )
