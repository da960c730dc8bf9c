"""Released prefixes that rest for longer because nobody confirmed that their session has ended, and what ends that."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from db import PlatformConnection
from ipam.allocation import Quarantine
from ipam.outbox import NEWS
from ipam.removals import LATE

__all__ = ["Unconfirmed", "confirm", "unconfirmed"]


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A delegation that was released while its session may have lived on."""

    id: int
    tenant: str
    subscriber_ref: str
    revoked_at: datetime
    """A session that began later is another one: the subscriber has come back."""


# The rest that this very release gave the prefix: not that of a later holder, and not that of a stranger's.
_AT_REST = "s.delegation_id IS NULL AND s.free_at = d.released_at + CAST(:unconfirmed AS interval)"

_UNCONFIRMED = text(
    f"""
    SELECT d.id, d.tenant_id, d.subscriber_ref, d.state_since FROM delegations d
    LEFT JOIN slots s ON s.pool_id = d.pool_id AND s.slot = d.slot
    LEFT JOIN netbox_removals r ON r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key
                               AND r.pool_id = d.pool_id
    WHERE d.released_at > now() - CAST(:unconfirmed AS interval) AND d.disconnect_confirmed IS FALSE
      AND CASE WHEN d.slot IS NULL THEN r.prefix IS NOT NULL ELSE {_AT_REST} END
    ORDER BY random() LIMIT :most
    """
)

_CONFIRM = text(
    f"""
    WITH d AS (
        UPDATE delegations SET disconnect_confirmed = true
        WHERE id = :id AND disconnect_confirmed IS FALSE AND released_at IS NOT NULL
        RETURNING *
    ), sooner AS (
        UPDATE slots s SET free_at = least(s.free_at, now() + CAST(:confirmed AS interval))
        FROM d WHERE s.pool_id = d.pool_id AND s.slot = d.slot AND {_AT_REST}
    ), told AS ( -- when to take it out of NetBox; a worker that tells NetBox at this moment knows of the former end
        UPDATE netbox_records r SET {NEWS} FROM d WHERE r.pool_id = d.pool_id AND r.slot = d.slot
    ), sooner_in_netbox AS (
        UPDATE netbox_removals r
        SET due_at = least(r.due_at, now() + greatest(CAST(:confirmed AS interval), CAST(:late AS interval)))
        FROM d WHERE r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key AND r.pool_id = d.pool_id
    )
    SELECT count(*) FROM d
    """
)


async def unconfirmed(connection: PlatformConnection, quarantine: Quarantine, *, most: int) -> list[Unconfirmed]:
    """Those that rest for that reason.

    At random, so that those of a NAS that is gone do not keep the others from their turn.
    """
    rows = await connection.execute(_UNCONFIRMED, {"unconfirmed": quarantine.unconfirmed, "most": most})
    return [Unconfirmed(*row) for row in rows]


async def confirm(connection: PlatformConnection, one: Unconfirmed, quarantine: Quarantine) -> bool:
    """The session is known to be over: from now on the prefix rests as one of which that was known from the beginning.

    False where that was known already.
    """
    given = {
        "id": one.id,
        "confirmed": quarantine.confirmed,
        "unconfirmed": quarantine.unconfirmed,
        "late": LATE,
    }
    return bool(await connection.scalar(_CONFIRM, given))
