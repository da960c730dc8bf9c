"""The parts of queries that several invariants share: the last order of each subscriber, and whether one is open."""

from lastmile.audit.invariant import tenant_condition

__all__ = ["LAST_LINE_ORDER", "NO_OPEN_ORDER", "SAME_SUBSCRIBER", "last_order"]

# The last order that changed a subscriber's service. A rolled-back order changed nothing. Neither did the lost orders
# that it had taken over. The invariant `left_behind` finds the records of a skipped compensation.
_LAST_ORDER = """
    SELECT DISTINCT ON (o.tenant_id, o.subscriber_ref)
        o.tenant_id, o.subscriber_ref, o.order_id, o.operation, o.effect, o.status
    FROM orders o
    LEFT JOIN orders heir ON o.status = 'superseded' AND heir.tenant_id = o.tenant_id
        AND heir.subscriber_ref = o.subscriber_ref AND heir.operation = o.operation
        AND heir.taken_over AND lastmile_order_rolled_back(heir.status) AND heir.created_at > o.created_at
    WHERE NOT lastmile_order_rolled_back(o.status) AND heir.order_id IS NULL AND {tenant} AND {condition}
    ORDER BY o.tenant_id, o.subscriber_ref, o.created_at DESC, o.order_id
"""


def last_order(condition: str = "true") -> str:
    """Return the query of each subscriber's last order, of those that satisfy `condition`."""
    return _LAST_ORDER.format(tenant=tenant_condition("o.tenant_id"), condition=condition)


# The last order that created the subscriber's line, or ended it.
LAST_LINE_ORDER = last_order("o.effect IN ('creates', 'ends')")
SAME_SUBSCRIBER = "other.tenant_id = {0}.tenant_id AND other.subscriber_ref = {0}.subscriber_ref"

# No order is running for the subscriber of this row.
NO_OPEN_ORDER = f"""
    NOT EXISTS (SELECT FROM orders other WHERE {SAME_SUBSCRIBER} AND lastmile_order_unfinished(other.status))
"""
