"""What must hold after a storm, in SQL of its own: nothing here is the audit's, which a storm is to test as well."""

import asyncpg

__all__ = ["broken"]

# Each query returns violations; none may return a row.
QUERIES = {
    "two live prefixes overlap in one VRF": """
        SELECT one.prefix, one.subscriber_ref, other.subscriber_ref
        FROM delegations one JOIN pools p ON p.id = one.pool_id, delegations other JOIN pools q ON q.id = other.pool_id
        WHERE one.id < other.id AND p.vrf = q.vrf AND one.prefix && other.prefix
          AND one.released_at IS NULL AND other.released_at IS NULL
    """,
    "a subscriber holds two prefixes for one purpose": """
        SELECT tenant_id, subscriber_ref, purpose, count(*) FROM delegations WHERE released_at IS NULL
        GROUP BY 1, 2, 3 HAVING count(*) > 1
    """,
    "a slot is taken without delegation, or a delegation has no slot": """
        SELECT s.pool_id, s.slot, d.id FROM (SELECT * FROM slots WHERE delegation_id IS NOT NULL) s
        FULL JOIN (SELECT * FROM delegations WHERE released_at IS NULL) d
          ON d.id = s.delegation_id AND d.pool_id = s.pool_id AND d.slot = s.slot
        WHERE s.slot IS NULL OR d.id IS NULL
    """,
    "RADIUS and the active delegations differ": """
        SELECT r.username, r.value, d.subscriber_ref, d.prefix
        FROM (SELECT * FROM radreply WHERE attribute = 'Delegated-IPv6-Prefix') r
        FULL JOIN (SELECT *, subscriber_ref || '@' || tenant_id || '.lastmile' AS username
                   FROM delegations WHERE state = 'active') d
          ON d.username = r.username AND d.prefix::text = r.value
        WHERE r.id IS NULL OR d.id IS NULL
    """,
    "a delegation is left between two states": """
        SELECT subscriber_ref, prefix, state FROM delegations
        WHERE state NOT IN ('active', 'revoked') OR (state = 'revoked' AND released_at IS NULL)
    """,
    "an order has not ended": "SELECT order_id, status FROM orders WHERE finished_at IS NULL",
    "a rolled-back order left a row": """
        SELECT o.order_id, made.kind FROM orders o JOIN (
            SELECT 'customer' AS kind, created_by_order FROM customers
            UNION ALL SELECT 'subscriber', created_by_order FROM subscribers
            UNION ALL SELECT 'profile', created_by_order FROM network_profiles
            UNION ALL SELECT 'account', created_by_order FROM radcheck
            UNION ALL SELECT 'billing', created_by_order FROM billing_services
            UNION ALL SELECT 'device', created_by_order FROM devices
            UNION ALL SELECT 'prefix', created_by_order FROM delegations WHERE released_at IS NULL
        ) made ON made.created_by_order = o.order_id
        WHERE o.status = 'rolled_back' AND o.operation = 'provision'
    """,
    "a live line lacks a row": """
        SELECT last.subscriber_ref FROM (
            SELECT DISTINCT ON (subscriber_ref) subscriber_ref, operation FROM orders
            WHERE status IN ('completed', 'degraded') ORDER BY subscriber_ref, created_at DESC) last
        LEFT JOIN subscribers s ON s.ref = last.subscriber_ref AND s.archived_at IS NULL
        LEFT JOIN network_profiles n ON n.subscriber_id = s.id
        LEFT JOIN billing_services b ON b.subscriber_id = s.id AND b.status = 'active'
        LEFT JOIN delegations d ON d.subscriber_ref = last.subscriber_ref AND d.state = 'active'
        LEFT JOIN radcheck r ON r.username = last.subscriber_ref || '@acme.lastmile'
                            AND r.attribute = 'Cleartext-Password'
        WHERE last.operation = 'provision' AND (n.id IS NULL OR b.id IS NULL OR d.id IS NULL OR r.id IS NULL)
    """,
    "a line that was taken down has a row": """
        SELECT last.subscriber_ref FROM (
            SELECT DISTINCT ON (subscriber_ref) subscriber_ref, operation FROM orders
            WHERE status IN ('completed', 'degraded') ORDER BY subscriber_ref, created_at DESC) last
        LEFT JOIN subscribers s ON s.ref = last.subscriber_ref AND s.archived_at IS NULL
        LEFT JOIN delegations d ON d.subscriber_ref = last.subscriber_ref AND d.released_at IS NULL
        LEFT JOIN radcheck r ON r.username = last.subscriber_ref || '@acme.lastmile'
        LEFT JOIN devices v ON v.subscriber_ref = last.subscriber_ref AND v.in_service
        LEFT JOIN billing_services b ON b.subscriber_id = s.id AND b.status <> 'ended'
        WHERE last.operation = 'deprovision'
          AND (s.id IS NOT NULL OR d.id IS NOT NULL OR r.id IS NOT NULL OR v.subscriber_ref IS NOT NULL
               OR b.id IS NOT NULL)
    """,
    "a blocked account is on a live line": """
        SELECT r.username FROM radcheck r JOIN delegations d
          ON r.username = d.subscriber_ref || '@' || d.tenant_id || '.lastmile' AND d.state = 'active'
        WHERE r.attribute = 'Auth-Type'
    """,
}


async def broken(owner: asyncpg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return the violations by the query that found them."""
    found = {name: [tuple(row) for row in await owner.fetch(query)] for name, query in QUERIES.items()}
    return {name: rows for name, rows in found.items() if rows}
