"""What is asked of the database for a snapshot: a handful of set-based queries for all figures.

A column that is named as a metric of `lastmile.telemetry.metrics` is its value (NULL: none); the others are labels.
How many delegations there are of each kind was counted as they changed (`delegation_counts`), and what is out of the
ordinary is found by partial indexes. Prefixes at rest alone are counted one by one, by index: no row changes when a
rest ends.
"""

from ipam.lifecycle import State
from ipam.netbox.delegated.blocks import KEPT

__all__ = ["QUERIES"]

_PASSING = (State.PENDING, State.ALLOCATED, State.REVOKING, State.FAILED, State.REVOKED)
"""Where a delegation that holds its subscriber's place, or its slot, does not stay."""


def _states(states: tuple[State, ...]) -> str:
    rows = ", ".join(f"('{state}')" for state in states)
    return f"(VALUES {rows}) every (state)"


_BY_STATE = f"""
    SELECT t.id AS tenant, every.state, coalesce(sum(c.number), 0) AS ipv6_lifecycle_state_total
    FROM tenants t CROSS JOIN {_states(tuple(State))}
    LEFT JOIN delegation_counts c ON c.tenant_id = t.id AND c.state = every.state
    GROUP BY t.id, every.state
"""

# NetBox shows a prefix by itself, or in its block where the pool records blocks; not, while NetBox is behind. A prefix
# of a pool that lives in the database alone is not meant to be in NetBox, and does not count.
_BY_TENANT = """
    WITH counted AS (
        SELECT c.tenant_id, sum(c.number) AS held,
               coalesce(sum(c.number) FILTER (WHERE c.state = 'active'), 0) AS active,
               coalesce(sum(c.number) FILTER (WHERE p.netbox_mode IS NOT NULL), 0) AS meant,
               coalesce(sum(c.number) FILTER (
                   WHERE p.netbox_mode = 'delegated' OR p.netbox_mode IS NOT NULL AND c.in_netbox), 0) AS told
        FROM delegation_counts c JOIN pools p ON p.id = c.pool_id
        WHERE c.held GROUP BY c.tenant_id HAVING sum(c.number) > 0
    ), behind AS (
        SELECT d.tenant_id, count(*) AS untold
        FROM netbox_records r JOIN pools p ON p.id = r.pool_id AND p.netbox_record = 'prefix'
        JOIN delegations d ON d.pool_id = r.pool_id AND d.slot = r.slot AND d.released_at IS NULL
        WHERE r.due_at IS NOT NULL AND r.since IS NOT NULL
          AND (r.netbox_id IS NULL OR r.key IS DISTINCT FROM d.allocation_key)
        GROUP BY d.tenant_id
    )
    SELECT tenant_id AS tenant, 100.0 * active / held AS ipv6_active_percent,
           100.0 * greatest(0, told - coalesce(untold, 0)) / nullif(meant, 0) AS ipv6_netbox_integration_percent,
           nullif(meant, 0) AS lastmile_netbox_delegations
    FROM counted LEFT JOIN behind USING (tenant_id)
"""

# Out of reach for ever is what people have made in our blocks in NetBox; it does not rest.
_BY_POOL = """
    SELECT pool, tenant, purpose, 100.0 * (held + resting + barred) / capacity AS ipv6_pool_utilization_percent,
           capacity - held - resting - barred AS ipv6_pool_free_prefixes, resting AS ipv6_quarantined_prefixes
    FROM (
        SELECT p.name AS pool, coalesce(p.tenant_id, '') AS tenant, p.purpose,
               p.end_slot - p.first_slot - excluded.slots + excluded.held AS capacity,
               coalesce(counted.held, 0) AS held, here.resting + coalesce(there.resting, 0) AS resting, here.barred
        FROM pools p
        LEFT JOIN (SELECT pool_id, sum(number) AS held FROM delegation_counts WHERE held GROUP BY 1) counted
               ON counted.pool_id = p.id
        LEFT JOIN (SELECT pool_id, count(prefix) AS resting FROM netbox_removals GROUP BY 1) there
               ON there.pool_id = p.id
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE free_at < 'infinity') AS resting,
                   count(*) FILTER (WHERE free_at = 'infinity' AND NOT slot <@ p.excluded) AS barred
            FROM slots s WHERE s.pool_id = p.id AND s.delegation_id IS NULL AND s.free_at > now()
        ) here
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(upper(gap) - lower(gap)), 0)::bigint AS slots,
                   CASE WHEN p.excluded = '{}' THEN 0 ELSE (
                       SELECT count(delegation_id) FROM slots s WHERE s.pool_id = p.id AND s.slot <@ p.excluded
                   ) END AS held
            FROM unnest(p.excluded * int8multirange(int8range(p.first_slot, p.end_slot))) gap
        ) excluded
    ) pools_in_use
"""

# An operator knows of the delegation, and has acknowledged what the audit says of it or of the order that left it.
_NOT_ACKNOWLEDGED = """
    NOT EXISTS (SELECT FROM acknowledgements a WHERE a.tenant_id = d.tenant_id AND (a.invariant, a.key) IN (
        ('not_active', d.id::text), ('not_given', d.id::text), ('not_released', d.id::text),
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

# Of runs, and not of orders: a parked one may be no order's.
_ATTENTION = """
    SELECT t.id AS tenant, count(w.tenant) AS lastmile_attention_runs
    FROM tenants t LEFT JOIN unnest(CAST(:waiting_tenants AS text[])) w (tenant) ON w.tenant = t.id
    GROUP BY t.id
"""

# What waits for a person is known already, and is not to hide what is stuck.
_ORDERS = """
    SELECT t.id AS tenant,
           coalesce(greatest(0, extract(epoch FROM now() - o.oldest)), 0) AS lastmile_oldest_open_order_seconds
    FROM tenants t LEFT JOIN (
        SELECT tenant_id, min(created_at) AS oldest FROM orders
        WHERE status IN ('running', 'rolling_back')
          AND NOT EXISTS (SELECT FROM unnest(CAST(:waiting_runs AS text[])) w (id) WHERE w.id = run_id)
        GROUP BY 1
    ) o ON o.tenant_id = t.id
"""

# As `ipam.netbox.delegated.outbox.backlog` tells it of one pool.
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

_NETBOX = f"""
    SELECT p.name AS pool, coalesce(p.tenant_id, '') AS tenant,
           CAST(netbox_full_since IS NOT NULL AS integer) AS lastmile_netbox_pool_full,
           CASE netbox_mode WHEN 'delegated' THEN
               coalesce(greatest(0, extract(epoch FROM now() - kept_at)), 0) END AS lastmile_keeper_age_seconds
    FROM pools p {KEPT} WHERE netbox_mode IS NOT NULL
"""

_AUDIT = """
    SELECT invariant, violations AS lastmile_audit_violations, acknowledged AS lastmile_audit_acknowledged
    FROM audit_findings
"""

# The audit is as old as what it has looked at first.
_AUDITED = "SELECT extract(epoch FROM min(checked_at)) AS lastmile_audit_timestamp_seconds FROM audit_findings"

QUERIES = (_BY_STATE, _BY_TENANT, _BY_POOL, _STUCK, _LEAKS, _ATTENTION, _ORDERS, _OUTBOX, _NETBOX, _AUDIT, _AUDITED)
