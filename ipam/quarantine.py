"""The longer quarantine of prefixes whose last session no NAS confirmed to have ended, and its end."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from ipam.allocation import Quarantine
from ipam.netbox.direct.pending_removals import LATE
from lastmile.db import PlatformConnection

__all__ = ["Unconfirmed", "confirm", "unconfirmed"]


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A delegation that was released while its session may have been open."""

    id: int
    tenant: str
    username: str
    """The user name of the line in RADIUS, while it held the prefix."""
    until: datetime | None
    """Logins that were recorded later did not get the prefix: see `concerns_until` of `delegation_revocations`."""


_UNCONFIRMED = text(
    """
    SELECT id, tenant_id, username, concerns_until FROM lastmile_unconfirmed_quarantine(:unconfirmed)
    ORDER BY random() LIMIT :most
    """
)

_CONFIRM = text(
    """
    WITH d AS (
        UPDATE delegations SET disconnect_confirmed = true
        WHERE id = :id AND disconnect_confirmed IS FALSE AND released_at IS NOT NULL
        RETURNING *
    ), sooner AS (
        UPDATE slots s SET free_at = least(s.free_at, now() + CAST(:confirmed AS interval))
        FROM d WHERE s.pool_id = d.pool_id AND s.slot = d.slot AND s.delegation_id IS NULL
          AND s.free_at = d.released_at + CAST(:unconfirmed AS interval) -- the quarantine of this release
    ), due AS ( -- a worker that reports at this moment has read the former end
        UPDATE netbox_records r SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
        FROM d WHERE r.pool_id = d.pool_id AND r.slot = d.slot
    ), sooner_in_netbox AS (
        UPDATE netbox_removals r
        SET due_at = least(r.due_at, now() + greatest(CAST(:confirmed AS interval), CAST(:late AS interval)))
        FROM d WHERE r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key AND r.pool_id = d.pool_id
    )
    SELECT count(*) FROM d
    """
)


async def unconfirmed(connection: PlatformConnection, quarantine: Quarantine, *, most: int) -> list[Unconfirmed]:
    """Return at most `most` delegations in the longer quarantine.

    In random order, so that a NAS that is gone does not hold up the delegations of others.
    """
    rows = await connection.execute(_UNCONFIRMED, {"unconfirmed": quarantine.unconfirmed, "most": most})
    return [Unconfirmed(*row) for row in rows]


async def confirm(connection: PlatformConnection, one: Unconfirmed, quarantine: Quarantine) -> bool:
    """Shorten the quarantine to that of a confirmed end; return False where the end was confirmed already."""
    given = {
        "id": one.id,
        "confirmed": quarantine.confirmed,
        "unconfirmed": quarantine.unconfirmed,
        "late": LATE,
    }
    return bool(await connection.scalar(_CONFIRM, given))
