"""Released prefixes that rest for longer because nobody confirmed that their session has ended, and what ends that."""

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
    """A delegation that was released while its session may have lived on."""

    id: int
    tenant: str
    subscriber_ref: str
    until: datetime | None
    """Logins that were recorded later do not concern the delegation: see `CONCERNS_UNTIL`."""


# The last time at which a login can have got the delegation `d`, as a SQL expression. After a later provision of the
# subscriber it is another line's. An account that stays in service (an undone order's) hands the address out no more.
REVOCATION_BEGAN = """coalesce((SELECT max(e.at) FROM delegation_events e
    WHERE e.delegation_id = d.id AND e.to_state = 'revoking'), d.state_since)"""
CONCERNS_UNTIL = f"""coalesce(
    (SELECT min(o.created_at) FROM orders o WHERE o.tenant_id = d.tenant_id AND o.subscriber_ref = d.subscriber_ref
                                              AND o.operation = 'provision' AND o.created_at > d.state_since),
    CASE WHEN EXISTS (SELECT FROM radcheck c WHERE c.username = {_USER} AND c.attribute = 'Cleartext-Password')
          AND NOT EXISTS (SELECT FROM radcheck c WHERE c.username = {_USER} AND c.attribute = 'Auth-Type')
         THEN {REVOCATION_BEGAN} END)"""

# The rest that this very release gave the prefix: not that of a later holder, and not that of a stranger's.
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
    ), told AS ( -- when to take it out of NetBox; a worker that tells NetBox at this moment knows of the former end
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
