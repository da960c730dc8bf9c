"""The set-based queries of the metrics snapshot.

A column with the name of a metric of `lastmile.telemetry.metrics` has its value (NULL: no value). Other columns are
labels. No query reads every delegation:

- The numbers of delegations come from `delegation_counts`, to which every change adds a row.
- Exceptional states are found through partial indexes.
- Prefixes in quarantine are counted through an index, since no row changes when a quarantine ends.
"""

from ipam.lifecycle import State
from lastmile.db.statements import read_sql

__all__ = ["QUERIES"]

_PASSING = (State.PENDING, State.ALLOCATED, State.REVOKING, State.FAILED, State.REVOKED)
"""The states in which an unreleased delegation does not stay."""


def _states(states: tuple[State, ...]) -> str:
    rows = ", ".join(f"('{state}')" for state in states)
    return f"(VALUES {rows}) every (state)"


_BY_STATE = f"""
    SELECT t.id AS tenant, every.state, coalesce(sum(c.number), 0) AS ipv6_lifecycle_state_total
    FROM tenants t CROSS JOIN {_states(tuple(State))}
    LEFT JOIN delegation_counts c ON c.tenant_id = t.id AND c.state = every.state
    GROUP BY t.id, every.state
"""

_BY_TENANT = read_sql("lastmile.metrics", "by_tenant")

_BY_POOL = read_sql("lastmile.metrics", "by_pool")

# No operator has acknowledged an audit finding about the delegation, or about the order that left it.
_NOT_ACKNOWLEDGED = """
    NOT EXISTS (SELECT FROM acknowledgements a WHERE a.tenant_id = d.tenant_id AND (a.invariant, a.key) IN (
        ('not_active', d.id::text), ('not_allocated', d.id::text), ('not_released', d.id::text),
        ('left_behind', 'prefix ' || d.prefix)))
"""

_STUCK = f"""
    WITH passing AS (
        SELECT tenant_id, state, min(state_since) AS oldest FROM delegations d
        WHERE released_at IS NULL AND state IN ('pending', 'allocated', 'revoking', 'revoked', 'failed')
          AND {_NOT_ACKNOWLEDGED}
        GROUP BY tenant_id, state
    )
    SELECT t.id AS tenant, every.state,
           coalesce(greatest(0, extract(epoch FROM now() - p.oldest)), 0) AS ipv6_oldest_stuck_seconds
    FROM tenants t CROSS JOIN {_states(_PASSING)}
    LEFT JOIN passing p ON p.tenant_id = t.id AND p.state = every.state
"""

_LEAKS = f"""
    SELECT t.id AS tenant, coalesce(leaked.number, 0) AS ipv6_prefix_leak_total
    FROM tenants t LEFT JOIN (
        SELECT tenant_id, count(*) AS number FROM delegations d
        WHERE released_at IS NULL AND state = 'allocated' AND state_since < now() - interval '1 day'
          AND {_NOT_ACKNOWLEDGED}
        GROUP BY tenant_id
    ) leaked ON leaked.tenant_id = t.id
"""

# Counts runs, not orders, since a parked run may belong to no order.
_ATTENTION = """
    SELECT t.id AS tenant, count(w.tenant) AS lastmile_attention_runs
    FROM tenants t LEFT JOIN unnest(CAST(:waiting_tenants AS text[])) w (tenant) ON w.tenant = t.id
    GROUP BY t.id
"""

# Parked runs have a metric of their own. Here they would hide an order that is stuck. An order that waits in an overlap
# is open for as long as it was told to be: its time counts from the end of the overlap.
_ORDERS = """
    SELECT t.id AS tenant,
           coalesce(greatest(0, extract(epoch FROM now() - o.oldest)), 0) AS lastmile_oldest_open_order_seconds
    FROM tenants t LEFT JOIN (
        SELECT tenant_id, min(greatest(created_at, (
            SELECT max(d.replaced_until) FROM delegations d
            WHERE d.tenant_id = orders.tenant_id AND d.subscriber_ref = orders.subscriber_ref
              AND d.replaced_by_order = orders.order_id AND d.released_at IS NULL
        ))) AS oldest
        FROM orders
        WHERE lastmile_order_unfinished(status)
          AND NOT EXISTS (SELECT FROM unnest(CAST(:waiting_runs AS text[])) w (id) WHERE w.id = run_id)
        GROUP BY 1
    ) o ON o.tenant_id = t.id
"""

_ACCEPTED = """
    SELECT t.id AS tenant,
           (SELECT count(*) FROM accepted_orders a WHERE a.tenant_id = t.id AND a.state = 'waiting')
               AS lastmile_accepted_orders_waiting,
           coalesce((SELECT greatest(0, extract(epoch FROM now() - min(s.accepted_at))) FROM startable_orders s
                     WHERE s.tenant_id = t.id AND NOT s.busy), 0) AS lastmile_oldest_accepted_order_seconds
    FROM tenants t
"""

# A younger event that is not mapped yet is being mapped.
_HOOK_EVENTS = """
    SELECT t.id AS tenant, count(e.id) AS lastmile_hook_events_kept
    FROM tenants t LEFT JOIN hook_events e ON e.tenant_id = t.id AND e.state IN ('received', 'failed')
        AND (e.state = 'failed' OR e.received_at < now() - interval '5 minutes')
    GROUP BY t.id
"""

# Another call is being made at this moment.
_DEVICES = """
    SELECT t.id AS tenant, every.kind, count(p.identity) AS lastmile_pending_device_calls,
           coalesce(greatest(0, extract(epoch FROM now() - min(p.since))), 0)
               AS lastmile_oldest_pending_device_call_seconds
    FROM tenants t CROSS JOIN (VALUES ('onu'), ('cpe')) every (kind)
    LEFT JOIN pending_device_calls p ON p.tenant_id = t.id AND p.kind = every.kind AND NOT p.is_check
         AND (p.waits_for <> '' OR p.error <> '' OR p.due_at <= now())
    GROUP BY t.id, every.kind
"""

_SUSPENSIONS = """
    SELECT t.id AS tenant, every.mode, count(x.id) AS lastmile_suspended_lines
    FROM tenants t CROSS JOIN (VALUES ('block'), ('walled_garden'), ('slow')) every (mode)
    LEFT JOIN suspensions x ON x.tenant_id = t.id AND x.mode = every.mode AND x.ended_at IS NULL
    GROUP BY t.id, every.mode
"""

_OVERDUE = """
    SELECT t.id AS tenant, coalesce(greatest(0, extract(epoch FROM now() - min(x.resume_at))), 0)
           AS lastmile_overdue_suspension_seconds
    FROM tenants t LEFT JOIN suspensions x ON x.tenant_id = t.id AND x.ended_at IS NULL AND x.resume_at < now()
    GROUP BY t.id
"""

# The same values as `ipam.netbox.delegated.outbox.backlog` returns for one pool.
_OUTBOX = """
    SELECT p.name AS pool, coalesce(p.tenant_id, '') AS tenant,
           coalesce(waiting, 0) AS lastmile_netbox_outbox_waiting,
           coalesce(refused, 0) AS lastmile_netbox_outbox_refused,
           coalesce(greatest(0, extract(epoch FROM now() - oldest)), 0) AS lastmile_netbox_outbox_lag_seconds
    FROM pools p LEFT JOIN (
        SELECT pool_id, count(*) AS waiting, count(problem) AS refused, min(coalesce(since, due_at)) AS oldest
        FROM netbox_records WHERE due_at IS NOT NULL AND (since IS NOT NULL OR due_at <= now()) GROUP BY pool_id
    ) r ON r.pool_id = p.id
    WHERE p.netbox_record = 'prefix'
"""

_NETBOX = """
    SELECT p.name AS pool, coalesce(p.tenant_id, '') AS tenant,
           CAST(netbox_full_since IS NOT NULL AS integer) AS lastmile_netbox_pool_full,
           CASE p.mode WHEN 'delegated' THEN
               coalesce(greatest(0, extract(epoch FROM now() - maintained_at)), 0)
           END AS lastmile_block_maintenance_age_seconds
    FROM pools p JOIN block_maintenance m ON m.pool_id = p.id WHERE p.mode <> 'database'
"""

_AUDIT = """
    SELECT invariant, violations AS lastmile_audit_violations, acknowledged AS lastmile_audit_acknowledged
    FROM audit_findings
"""

# The age of the audit is the age of its oldest check.
_AUDITED = "SELECT extract(epoch FROM min(checked_at)) AS lastmile_audit_timestamp_seconds FROM audit_findings"

QUERIES = (
    _BY_STATE,
    _BY_TENANT,
    _BY_POOL,
    _STUCK,
    _LEAKS,
    _ATTENTION,
    _ORDERS,
    _ACCEPTED,
    _HOOK_EVENTS,
    _DEVICES,
    _SUSPENSIONS,
    _OVERDUE,
    _OUTBOX,
    _NETBOX,
    _AUDIT,
    _AUDITED,
)
