"""The history of a subscriber and the holders of a prefix, each read through an index."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from lastmile.db import PlatformConnection

__all__ = ["HistoryEntry", "HistoryKey", "Prefix", "Tenure"]
__all__ += ["find_delegations", "read_history", "read_history_after", "read_tenures"]

HistoryKey = tuple[str, int, int]
"""The sort key of an entry: its time, its table, and its id there."""


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
    SELECT at, at::text AS at_text, source, id, actor, order_id, record, key, action, before, after FROM (
        SELECT at, 0 AS source, id, actor, order_id, record, key, action, before, after
        FROM audit_log WHERE tenant_id = :tenant AND subscriber_ref = :subscriber_ref
        UNION ALL
        SELECT e.at, 1, e.id, coalesce(o.requested_by, 'order ' || e.order_id), e.order_id, 'delegations',
               coalesce(e.prefix::text, 'no prefix'),
               CASE WHEN e.from_state = 'pending' AND e.to_state = 'allocated' THEN 'created' ELSE 'changed' END,
               jsonb_build_object('state', e.from_state),
               jsonb_build_object('state', e.to_state, 'reason', e.reason)
               || CASE WHEN e.vrf <> '' THEN jsonb_build_object('vrf', e.vrf) ELSE '{}' END
        FROM delegation_events e LEFT JOIN orders o USING (tenant_id, order_id)
        WHERE e.tenant_id = :tenant AND e.subscriber_ref = :subscriber_ref
    ) entries
    WHERE (CAST(:since AS timestamptz) IS NULL OR at >= :since)
      AND (CAST(:after_at AS text) IS NULL
           OR (at, source, id) > (CAST(CAST(:after_at AS text) AS timestamptz), :after_source, :after_id))
    ORDER BY at, source, id LIMIT CAST(:limit AS bigint)
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
    WHERE e.delegation_id = ANY(CAST(:delegations AS bigint[])) AND e.prefix && CAST(:prefix AS inet)
    GROUP BY e.tenant_id, e.delegation_id, e.subscriber_ref, e.prefix, e.vrf
    HAVING CAST(:at AS timestamptz) IS NULL OR (
        min(e.at) <= :at AND coalesce(max(e.at) FILTER (WHERE e.to_state = 'revoked'), 'infinity') > :at)
    ORDER BY since
    """
)


# Row-level security hides the index by prefix from a tenant's query, since its operators are not leakproof.
_HELD = text("SELECT DISTINCT delegation_id FROM delegation_events WHERE prefix && CAST(:prefix AS inet)")

Prefix = IPv4Network | IPv6Network | IPv4Address | IPv6Address


async def read_history(
    connection: PlatformConnection, tenant: str, subscriber_ref: str, since: datetime | None = None
) -> list[HistoryEntry]:
    """Return every change of the subscriber's records, oldest first. `since` omits earlier changes."""
    return [entry for entry, _ in await read_history_after(connection, tenant, subscriber_ref, since)]


async def read_history_after(
    connection: AsyncConnection,
    tenant: str,
    subscriber_ref: str,
    since: datetime | None = None,
    after: HistoryKey | None = None,
    limit: int | None = None,
) -> list[tuple[HistoryEntry, HistoryKey]]:
    """Return the changes of the subscriber's records after the one with the sort key, oldest first, with their keys."""
    after_at, after_source, after_id = after or (None, 0, 0)
    given = {"tenant": tenant, "subscriber_ref": subscriber_ref, "since": since, "limit": limit}
    given |= {"after_at": after_at, "after_source": after_source, "after_id": after_id}
    return [
        (HistoryEntry(*(getattr(row, name) for name in HistoryEntry.__slots__)), (row.at_text, row.source, row.id))
        for row in await connection.execute(_HISTORY, given)
    ]


async def find_delegations(connection: PlatformConnection, prefix: Prefix) -> list[int]:
    """Return the delegations of all tenants whose prefix overlapped `prefix` at some time."""
    return list(await connection.scalars(_HELD, {"prefix": str(prefix)}))


async def read_tenures(
    connection: AsyncConnection, prefix: Prefix, delegations: list[int], at: datetime | None = None
) -> list[Tenure]:
    """Return the holders that the connection sees, oldest first; with `at`, only those of that time.

    `delegations` are those of `find_delegations` for the prefix.
    """
    rows = await connection.execute(_HOLDERS, {"prefix": str(prefix), "delegations": delegations, "at": at})
    return [Tenure(**row._mapping) for row in rows]
