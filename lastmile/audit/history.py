"""The history of a subscriber and the holders of a prefix, each read through an index."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from sqlalchemy import text

from lastmile.db import PlatformConnection

__all__ = ["HistoryEntry", "Tenure", "read_history", "read_tenures"]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of a subscriber's history."""

    at: datetime
    actor: str
    order_id: str | None
    record: str
    key: str
    action: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Tenure:
    """The time during which one subscriber held a prefix."""

    tenant: str
    subscriber_ref: str
    prefix: str
    vrf: str | None
    """Empty: the default VRF. None: unknown, since the delegation event is older than the column."""
    since: datetime
    until: datetime | None
    """When it was revoked; None: still held."""
    order_id: str
    requested_by: str | None


_HISTORY = text(
    """
    SELECT at, actor, order_id, record, key, action, before, after FROM (
        SELECT at, id, actor, order_id, record, key, action, before, after
        FROM audit_log WHERE tenant_id = :tenant AND subscriber_ref = :subscriber_ref
        UNION ALL
        SELECT e.at, e.id, coalesce(o.requested_by, 'order ' || e.order_id), e.order_id, 'delegations',
               coalesce(e.prefix::text, 'no prefix'),
               CASE WHEN e.from_state = 'pending' AND e.to_state = 'allocated' THEN 'created' ELSE 'changed' END,
               jsonb_build_object('state', e.from_state),
               jsonb_build_object('state', e.to_state, 'reason', e.reason)
               || CASE WHEN e.vrf <> '' THEN jsonb_build_object('vrf', e.vrf) ELSE '{}' END
        FROM delegation_events e LEFT JOIN orders o USING (tenant_id, order_id)
        WHERE e.tenant_id = :tenant AND e.subscriber_ref = :subscriber_ref
    ) entries
    WHERE CAST(:since AS timestamptz) IS NULL OR at >= :since
    ORDER BY at, id
    """
)

# Read from the events, not from the delegations: the cleanup deletes a released delegation long before its events.
_HOLDERS = text(
    """
    SELECT e.tenant_id AS tenant, e.subscriber_ref, e.prefix::text AS prefix, e.vrf, min(e.at) AS since,
           max(e.at) FILTER (WHERE e.to_state = 'revoked') AS until,
           (array_agg(e.order_id ORDER BY e.id))[1] AS order_id,
           (array_agg(o.requested_by ORDER BY e.id))[1] AS requested_by
    FROM delegation_events e LEFT JOIN orders o USING (tenant_id, order_id)
    WHERE e.prefix && CAST(:prefix AS inet)
    GROUP BY e.tenant_id, e.delegation_id, e.subscriber_ref, e.prefix, e.vrf
    HAVING CAST(:at AS timestamptz) IS NULL OR (
        min(e.at) <= :at AND coalesce(max(e.at) FILTER (WHERE e.to_state = 'revoked'), 'infinity') > :at)
    ORDER BY since
    """
)


async def read_history(
    connection: PlatformConnection, tenant: str, subscriber_ref: str, since: datetime | None = None
) -> list[HistoryEntry]:
    """Return every change of the subscriber's records, oldest first. `since` omits earlier changes."""
    given = {"tenant": tenant, "subscriber_ref": subscriber_ref, "since": since}
    return [HistoryEntry(**row._mapping) for row in await connection.execute(_HISTORY, given)]


async def read_tenures(
    connection: PlatformConnection,
    prefix: IPv4Network | IPv6Network | IPv4Address | IPv6Address,
    at: datetime | None = None,
) -> list[Tenure]:
    """Return the holders of every prefix that overlaps `prefix`, oldest first; with `at`, only those of that time."""
    rows = await connection.execute(_HOLDERS, {"prefix": str(prefix), "at": at})
    return [Tenure(**row._mapping) for row in rows]
