"""The longer quarantine of prefixes whose last session no NAS confirmed to have ended, and its end."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from ipam.allocation import Quarantine
from ipam.netbox.direct.pending_removals import LATE
from lastmile.db import PlatformConnection

__all__ = ["CONCERNS_UNTIL", "RESTING_UNCONFIRMED", "REVOCATION_BEGAN", "Unconfirmed", "confirm", "unconfirmed"]


_USER = "lastmile_radius_username(d.subscriber_ref, d.tenant_id)"


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A delegation that was released while its session may have been open."""

    id: int
    tenant: str
    subscriber_ref: str
    until: datetime | None
    """Logins that were recorded later did not get the prefix: see `CONCERNS_UNTIL`."""


# The last time at which a login can have got the delegation `d`, as a SQL expression. A login after a later provision
# of the subscriber is of another line. An account that an undo leaves in service does not get the address any more.
REVOCATION_BEGAN = """coalesce((SELECT max(e.at) FROM delegation_events e
    WHERE e.delegation_id = d.id AND e.to_state = 'revoking'), d.state_since)"""
CONCERNS_UNTIL = f"""coalesce(
    (SELECT min(o.created_at) FROM orders o WHERE o.tenant_id = d.tenant_id AND o.subscriber_ref = d.subscriber_ref
                                              AND o.operation = 'provision' AND o.created_at > d.state_since),
    CASE WHEN EXISTS (SELECT FROM radcheck c WHERE c.username = {_USER} AND c.attribute = 'Cleartext-Password')
          AND NOT EXISTS (SELECT FROM radcheck c WHERE c.username = {_USER} AND c.attribute = 'Auth-Type')
         THEN {REVOCATION_BEGAN} END)"""

# The quarantine of this very release: not of a later holder, and not of a foreign prefix.
_AT_REST = "s.delegation_id IS NULL AND s.free_at = d.released_at + CAST(:unconfirmed AS interval)"

# With `d` for the delegation, `s` for its slot and `r` for its record in NetBox.
RESTING_UNCONFIRMED = f"""
    FROM delegations d
    LEFT JOIN slots s ON s.pool_id = d.pool_id AND s.slot = d.slot
    LEFT JOIN netbox_removals r ON r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key
                               AND r.pool_id = d.pool_id
    WHERE d.released_at > now() - CAST(:unconfirmed AS interval) AND d.disconnect_confirmed IS FALSE
      AND CASE WHEN d.slot IS NULL THEN r.prefix IS NOT NULL ELSE {_AT_REST} END"""

_UNCONFIRMED = text(
    f"SELECT d.id, d.tenant_id, d.subscriber_ref, {CONCERNS_UNTIL} {RESTING_UNCONFIRMED} ORDER BY random() LIMIT :most"
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
    ), told AS ( -- a worker that reports at this moment has read the former end
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
