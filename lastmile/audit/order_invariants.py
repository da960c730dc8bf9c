"""The invariants of orders: a completed order left everything that it promised, a rolled-back order left nothing."""

from lastmile.audit.invariant import Invariant, tenant_condition
from lastmile.audit.last_orders import LAST_LINE_ORDER, NO_OPEN_ORDER, SAME_SUBSCRIBER, last_order
from lastmile.contract.operations import OPERATIONS
from lastmile.contract.operations.order_type import ADDRESS_FACTS
from lastmile.subscribers.order_records import ORDER_RECORDS

__all__ = ["ORDER_INVARIANTS"]

# Ended, and not rolled back.
_ENDED = "NOT lastmile_order_unfinished(o.status) AND NOT lastmile_order_rolled_back(o.status)"

# The last order that ended the line, or that reports all addresses of the line.
_REPORT_ADDRESSES = str(
    [str(name) for name, entry in OPERATIONS.items() if any(step.facts == ADDRESS_FACTS for step in entry.steps)]
)
_LAST_ADDRESS_ORDER = last_order(f"o.operation = ANY (ARRAY{_REPORT_ADDRESSES})")
# Every existing row that an order created.
_CREATED_BY_ORDER = " UNION ALL ".join(
    f"SELECT '{kind}' AS kind, tenant_id, created_by_order, {records.name} AS what FROM {records.table} "
    f"WHERE created_by_order IS NOT NULL AND {records.left}"
    for kind, records in ORDER_RECORDS.items()
)

ORDER_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "left_behind",
        6,
        "a rolled-back order left nothing",
        f"""
        SELECT o.tenant_id AS tenant, o.order_id AS subject, made.kind || ' ' || made.what AS key,
               'was rolled back, but left ' || made.kind || ' ' || made.what AS words
        FROM orders o JOIN ({_CREATED_BY_ORDER}) made
          ON made.tenant_id = o.tenant_id AND made.created_by_order = o.order_id
        WHERE lastmile_order_rolled_back(o.status) AND {tenant_condition("o.tenant_id")}
          -- A later order has taken the record over, or deleted it.
          AND NOT EXISTS (SELECT FROM orders other WHERE {SAME_SUBSCRIBER.format("o")}
                          AND other.created_at > o.created_at AND lastmile_order_completed(other.status))
        """,
        "a compensation was skipped: provision or deprovision the subscriber, as intended",
    ),
    Invariant(
        "left_suspended",
        6,
        "a rolled-back deprovision order left the line in service",
        f"""
        SELECT o.tenant_id AS tenant, o.order_id AS subject, o.order_id || ' ' || left_so.what AS key,
               'was rolled back, but left ' || left_so.what || ' of ' || o.subscriber_ref || ' ' || left_so.how AS words
        FROM orders o JOIN (
            SELECT tenant_id, suspended_by_order AS by_order, 'billing' AS what, 'suspended' AS how
            FROM billing_services WHERE status = 'suspended'
            UNION ALL
            SELECT tenant_id, updated_by_order, 'the ' || upper(kind), 'out of service' FROM devices
            WHERE NOT in_service
        ) left_so ON left_so.tenant_id = o.tenant_id AND left_so.by_order = o.order_id
        WHERE o.effect = 'ends' AND lastmile_order_rolled_back(o.status) AND {tenant_condition("o.tenant_id")}
          -- A later order has put the line into service again, or ended it.
          AND NOT EXISTS (SELECT FROM orders other WHERE {SAME_SUBSCRIBER.format("o")}
                          AND other.created_at > o.created_at AND lastmile_order_completed(other.status))
        """,
        "a compensation was skipped: provision or deprovision the subscriber, as intended",
    ),
    Invariant(
        "half_changed",
        6,
        "no order ended in the middle of a change",
        f"""
        SELECT v.tenant_id AS tenant, v.subscriber_ref AS subject, v.created_by_order || ' ' || v.step AS key,
               'order ' || v.created_by_order || ' (' || replace(o.operation, '_', ' ') || ') ended '
               || replace(o.status, '_', ' ') || ' after its step ' || v.step AS words
        FROM previous_values v JOIN orders o ON o.tenant_id = v.tenant_id AND o.order_id = v.created_by_order
        WHERE NOT lastmile_order_unfinished(o.status) AND {tenant_condition("v.tenant_id")}
          AND {NO_OPEN_ORDER.format("v")}
        """,
        "send the change again with a new order, or a change back to what the line had; a deprovision ends the line",
    ),
    Invariant(
        "incomplete",
        6,
        "a provisioned subscriber has every record that its order created",
        f"""
        WITH last_order AS ({LAST_LINE_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'provisioned by order ' || o.order_id || ', but has no ' || concat_ws(', no ',
                   CASE WHEN s.id IS NULL THEN 'subscriber record' END,
                   CASE WHEN n.id IS NULL THEN 'network profile' END,
                   CASE WHEN r.id IS NULL THEN 'RADIUS account' END,
                   CASE WHEN b.id IS NULL THEN 'billing service' END) AS words
        FROM last_order o
        LEFT JOIN subscribers s ON s.tenant_id = o.tenant_id AND s.ref = o.subscriber_ref AND s.archived_at IS NULL
        LEFT JOIN network_profiles n ON n.subscriber_id = s.id
        LEFT JOIN billing_services b ON b.subscriber_id = s.id AND b.status <> 'ended'
        LEFT JOIN radcheck r ON r.tenant_id = o.tenant_id AND r.subscriber_ref = o.subscriber_ref
                            AND lastmile_is_account(r.attribute, r.value)
        WHERE o.effect = 'creates' AND lastmile_order_completed(o.status)
          AND (s.id IS NULL OR n.id IS NULL OR b.id IS NULL OR r.id IS NULL)
        """,
        "deprovision the subscriber and provision it again",
    ),
    Invariant(
        "taken_away",
        6,
        "a provisioned subscriber holds the addresses that its order assigned",
        f"""
        WITH last_order AS ({_LAST_ADDRESS_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'order ' || o.order_id || ' assigned ' || given.address || ', but the subscriber does not hold it'
               AS words
        FROM last_order o JOIN orders whole ON whole.tenant_id = o.tenant_id AND whole.order_id = o.order_id
        CROSS JOIN LATERAL (VALUES
            (whole.result #>> '{{created,ipv6_prefix}}'), (whole.result #>> '{{created,ipv6_framed_prefix}}'),
            (whole.result #>> '{{created,ipv6_address}}'), (whole.result #>> '{{created,ipv4_address}}')
        ) given (address)
        LEFT JOIN delegations d ON d.tenant_id = o.tenant_id AND d.subscriber_ref = o.subscriber_ref
                               AND d.released_at IS NULL AND host(d.prefix) = host(given.address::inet)
        WHERE o.effect <> 'ends' AND lastmile_order_completed(o.status)
          AND given.address IS NOT NULL AND d.id IS NULL
        """,
        "deprovision the subscriber and provision it again",
    ),
    Invariant(
        "not_terminated",
        6,
        "a deprovisioned subscriber has no record",
        f"""
        WITH last_order AS ({LAST_LINE_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'deprovisioned by order ' || o.order_id || ', but still has ' || concat_ws(', ',
                   CASE WHEN s.id IS NOT NULL THEN 'a subscriber record' END,
                   CASE WHEN n.id IS NOT NULL THEN 'a network profile' END,
                   CASE WHEN r.id IS NOT NULL THEN 'a RADIUS account' END,
                   CASE WHEN d.id IS NOT NULL THEN coalesce('prefix ' || d.prefix, 'a pending allocation') END) AS words
        FROM last_order o
        LEFT JOIN subscribers s ON s.tenant_id = o.tenant_id AND s.ref = o.subscriber_ref AND s.archived_at IS NULL
        LEFT JOIN delegations d ON d.tenant_id = o.tenant_id AND d.subscriber_ref = o.subscriber_ref
                               AND d.released_at IS NULL
        LEFT JOIN radcheck r ON r.tenant_id = o.tenant_id AND r.subscriber_ref = o.subscriber_ref
                            AND lastmile_is_account(r.attribute, r.value)
        -- Also the profile of an archived subscriber: such a profile blocks its devices for every other line.
        LEFT JOIN (network_profiles n JOIN subscribers owner ON owner.id = n.subscriber_id)
               ON owner.tenant_id = o.tenant_id AND owner.ref = o.subscriber_ref
        WHERE o.effect = 'ends' AND lastmile_order_completed(o.status)
          AND (s.id IS NOT NULL OR d.id IS NOT NULL OR r.id IS NOT NULL OR n.id IS NOT NULL)
        """,
        "deprovision the subscriber again, with a new order: it removes what is left",
    ),
    Invariant(
        "not_active",
        6,
        "every address of a finished order is active",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               'allocated to ' || d.subscriber_ref || ' by order ' || d.created_by_order
               || ', which ended ' || o.status || ' without activating the address' AS words
        FROM delegations d JOIN orders o ON o.tenant_id = d.tenant_id AND o.order_id = d.created_by_order
        WHERE d.state = 'allocated' AND {_ENDED}
          AND {tenant_condition("d.tenant_id")}
          AND {NO_OPEN_ORDER.format("d")}
        """,
        "`--repair` activates the address if the subscriber has an account; it takes effect at the next login. Without "
        "an account, deprovision the subscriber",
        repair="""
        WITH moved AS (
            UPDATE delegations d SET state = 'active', state_since = now() FROM delegation_reply_items i
            WHERE d.id = CAST(CAST(:key AS text) AS bigint) AND d.state = 'allocated' AND i.id = d.id
              AND EXISTS (SELECT FROM radcheck c WHERE c.username = i.username)
              -- RADIUS still assigns the prefix that this one was to replace: a new order must finish that.
              AND NOT EXISTS (SELECT FROM delegations old
                              WHERE old.tenant_id = d.tenant_id AND old.subscriber_ref = d.subscriber_ref
                                AND old.purpose = d.purpose AND old.id <> d.id AND old.released_at IS NULL)
            RETURNING d.*, i.username, i.attribute, i.value
        ), recorded AS (
            INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref,
                                           from_state, to_state, order_id, reason)
            SELECT tenant_id, id, prefix, subscriber_ref, 'allocated', 'active', created_by_order,
                   'repaired by the audit'
            FROM moved
        )
        INSERT INTO radreply (username, attribute, op, value)
        SELECT username, attribute, ':=', value FROM moved ON CONFLICT DO NOTHING
        """,
    ),
    Invariant(
        "unfinished",
        6,
        "no order runs for more than a day",
        f"""
        SELECT tenant_id AS tenant, order_id AS subject, order_id AS key,
               operation || ' of ' || subscriber_ref || ' has been ' || replace(status, '_', ' ') || ' since '
               || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC' AS words
        FROM orders
        WHERE lastmile_order_unfinished(status) AND created_at < now() - interval '1 day'
          AND {tenant_condition("tenant_id")}
          -- An overlap may be longer; the invariant `endless_overlap` watches its end.
          AND NOT EXISTS (SELECT FROM delegations d
                          WHERE d.tenant_id = orders.tenant_id AND d.replaced_by_order = orders.order_id
                            AND d.released_at IS NULL AND d.replaced_until > now() - interval '1 hour')
        """,
        "`lastmile status SUBSCRIBER` shows the step it waits in; if no run is open, send the subscriber's next order",
    ),
    Invariant(
        "not_allocated",
        6,
        "no finished order left an incomplete allocation",
        f"""
        SELECT d.tenant_id AS tenant, d.subscriber_ref AS subject, d.id::text AS key,
               'waits for a prefix for ' || d.purpose || ' (' || d.state || ') since order ' || d.created_by_order
               || ', which ended ' || o.status AS words
        FROM delegations d JOIN orders o ON o.tenant_id = d.tenant_id AND o.order_id = d.created_by_order
        WHERE d.state IN ('pending', 'failed') AND {_ENDED}
          AND {tenant_condition("d.tenant_id")}
          AND {NO_OPEN_ORDER.format("d")}
        """,
        "deprovision the subscriber",
    ),
    Invariant(
        "not_released",
        3,
        "every revoked address is released, or an open order will release it",
        f"""
        SELECT d.tenant_id AS tenant, coalesce(d.prefix::text, d.subscriber_ref) AS subject, d.id::text AS key,
               'revoked from ' || d.subscriber_ref || ', but not released: no other subscriber can get it' AS words
        FROM delegations d
        WHERE d.state = 'revoked' AND d.released_at IS NULL AND {tenant_condition("d.tenant_id")}
          AND {NO_OPEN_ORDER.format("d")}
        """,
        "the daily cleanup, and `lastmile cleanup`, release it one hour after the revocation; a new deprovision of the "
        "subscriber releases it now",
    ),
    Invariant(
        "terminated_order",
        6,
        "every terminated order has a later order that completed its work",
        f"""
        WITH last_order AS ({last_order()})
        SELECT o.tenant_id AS tenant, o.order_id AS subject, o.order_id AS key,
               o.operation || ' of ' || o.subscriber_ref || ' is ' || o.status
               || ', and no later order has completed its work' AS words
        FROM last_order o
        WHERE o.status IN ('abandoned', 'superseded')
        """,
        "provision or deprovision the subscriber, as intended",
    ),
)
