"""Rounds through the devices in service, for controllers that forget what they were told.

All workers make one round together: each takes the next lines.
"""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Column, DateTime, Table, Text, text

from lastmile.db import PlatformConnection, metadata
from lastmile.devices.records import DeviceKind

__all__ = ["NextDevice", "device_rounds", "take_next"]

device_rounds = Table(
    "device_rounds",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("after_tenant", Text),
    Column("after_subscriber", Text),
)

# Another worker that takes lines at this moment holds the row.
_POSITION = text(
    """
    SELECT coalesce(after_tenant, '') AS tenant, coalesce(after_subscriber, '') AS subscriber
    FROM device_rounds
    WHERE kind = :kind AND (after_tenant IS NOT NULL OR begun_at <= now() - CAST(:interval AS interval))
    FOR UPDATE SKIP LOCKED
    """
)
_NEXT = text(
    """
    SELECT tenant_id, subscriber_ref FROM devices
    WHERE kind = :kind AND in_service AND confirmed AND (tenant_id, subscriber_ref) > (:tenant, :subscriber)
    ORDER BY tenant_id, subscriber_ref LIMIT :batch
    """
)
_ADVANCE = text(
    """
    UPDATE device_rounds
    SET begun_at = CASE WHEN after_tenant IS NULL THEN now() ELSE begun_at END,
        after_tenant = :tenant, after_subscriber = :subscriber
    WHERE kind = :kind
    """
)


class NextDevice(NamedTuple):
    """A line whose device is confirmed to be in service."""

    tenant: str
    subscriber_ref: str


async def take_next(
    connection: PlatformConnection, kind: DeviceKind, *, interval: timedelta, batch: int
) -> list[NextDevice]:
    """Take the next lines of the round. Empty: the round has ended, and none is due until `interval` after its begin.

    A worker that ends after this leaves its lines to the next round.
    """
    position = (await connection.execute(_POSITION, {"kind": kind, "interval": interval})).one_or_none()
    if position is None:
        return []
    rows = await connection.execute(_NEXT, position._asdict() | {"kind": kind, "batch": batch})
    taken = [NextDevice(*row) for row in rows]
    tenant, subscriber = taken[-1] if len(taken) == batch else (None, None)
    await connection.execute(_ADVANCE, {"kind": kind, "tenant": tenant, "subscriber": subscriber})
    return taken
