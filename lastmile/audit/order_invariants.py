"""The invariants of orders (invariant 6): a finished order left all that it promised, a rolled-back one nothing."""

from collections.abc import Iterable

from lastmile.audit.invariant import ATTRIBUTE, USER, VALUE, Invariant, of_tenant
from lastmile.contract.operations import LineEffect, operations_that
from lastmile.subscribers.order_records import ORDER_RECORDS

__all__ = ["ORDER_INVARIANTS"]

_TAKEN_BACK = "{}.status IN ('rolled_back', 'partly_rolled_back')"
_ENDED = "{}.status NOT IN ('running', 'rolling_back', 'rolled_back', 'partly_rolled_back')"


def _sql_list(operations: Iterable[str]) -> str:
    return ", ".join(f"'{operation}'" for operation in operations)


_CREATES_LINE = f"{{}}.operation IN ({_sql_list(operations_that(LineEffect.CREATES))})"
_ENDS_LINE = f"{{}}.operation IN ({_sql_list(operations_that(LineEffect.ENDS))})"

# The last order that changed what a subscriber has. An order that was rolled back changed nothing, and so did the lost
# orders that it had taken over. What it left because an undo was skipped is `left_behind`.
_LAST_ORDER = """
    SELECT DISTINCT ON (o.tenant_id, o.subscriber_ref)
        o.tenant_id, o.subscriber_ref, o.order_id, o.operation, o.status
    FROM orders o
    LEFT JOIN orders heir ON o.status = 'superseded' AND heir.tenant_id = o.tenant_id
        AND heir.subscriber_ref = o.subscriber_ref AND heir.operation = o.operation
        AND heir.taken_over AND {heir_taken_back} AND heir.created_at > o.created_at
    WHERE NOT {taken_back} AND heir.order_id IS NULL AND {of_tenant} AND {condition}
    ORDER BY o.tenant_id, o.subscriber_ref, o.created_at DESC, o.order_id
"""


def _last_order(condition: str = "true") -> str:
    return _LAST_ORDER.format(
        taken_back=_TAKEN_BACK.format("o"),
        heir_taken_back=_TAKEN_BACK.format("heir"),
        of_tenant=of_tenant("o.tenant_id"),
        condition=condition,
    )


# The last order that created the subscriber's line, or ended it.
_LAST_LINE_ORDER = _last_order(f"({_CREATES_LINE.format('o')} OR {_ENDS_LINE.format('o')})")
_SETTLED = "{}.status IN ('completed', 'degraded')"
_SAME_SUBSCRIBER = "other.tenant_id = {0}.tenant_id AND other.subscriber_ref = {0}.subscriber_ref"

# No order is at work on the subscriber of this row.
_AT_REST = f"""
    NOT EXISTS (SELECT FROM orders other WHERE {_SAME_SUBSCRIBER} AND other.status IN ('running', 'rolling_back'))
"""

# Every row that an order created and that is still there.
_CREATED_BY_ORDER = " UNION ALL ".join(
    f"SELECT '{kind}' AS kind, tenant_id, created_by_order, {records.name} AS what FROM {records.table} "
    f"WHERE created_by_order IS NOT NULL AND {records.left}"
    for kind, records in ORDER_RECORDS.items()
)

ORDER_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "left_behind",
        6,
        "an order that was rolled back left nothing",
        f"""
        SELECT o.tenant_id AS tenant, o.order_id AS subject, made.kind || ' ' || made.what AS key,
               'was rolled back, and left ' || made.kind || ' ' || made.what AS words
        FROM orders o JOIN ({_CREATED_BY_ORDER}) made
          ON made.tenant_id = o.tenant_id AND made.created_by_order = o.order_id
        WHERE {_TAKEN_BACK.format("o")} AND {of_tenant("o.tenant_id")}
          -- An order that came later has made it its own, or taken it down.
          AND NOT EXISTS (SELECT FROM orders other WHERE {_SAME_SUBSCRIBER.format("o")}
                          AND other.created_at > o.created_at AND {_SETTLED.format("other")})
        """,
        "an undo was skipped: provision or deprovision the subscriber, whichever it should be",
    ),
    Invariant(
        "left_suspended",
        6,
        "a deprovision that was rolled back left the line in service",
        f"""
        SELECT o.tenant_id AS tenant, o.order_id AS subject, o.order_id || ' ' || left_so.what AS key,
               'was rolled back, and left ' || left_so.what || ' of ' || o.subscriber_ref || ' ' || left_so.how AS words
        FROM orders o JOIN (
            SELECT tenant_id, suspended_by_order AS by_order, 'billing' AS what, 'suspended' AS how
            FROM billing_services WHERE status = 'suspended'
            UNION ALL
            SELECT tenant_id, updated_by_order, 'the ' || upper(kind), 'out of service' FROM devices WHERE NOT wanted
        ) left_so ON left_so.tenant_id = o.tenant_id AND left_so.by_order = o.order_id
        WHERE {_ENDS_LINE.format("o")} AND {_TAKEN_BACK.format("o")} AND {of_tenant("o.tenant_id")}
        """,
        "an undo was skipped: provision or deprovision the subscriber, whichever it should be",
    ),
    Invariant(
        "incomplete",
        6,
        "a provisioned subscriber has all that its order made",
        f"""
        WITH last_order AS ({_LAST_LINE_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'provisioned by order ' || o.order_id || ', and has no ' || concat_ws(', no ',
                   CASE WHEN s.id IS NULL THEN 'subscriber record' END,
                   CASE WHEN n.id IS NULL THEN 'network profile' END,
                   CASE WHEN r.id IS NULL THEN 'RADIUS account' END,
                   CASE WHEN b.id IS NULL THEN 'billing service' END) AS words
        FROM last_order o
        LEFT JOIN subscribers s ON s.tenant_id = o.tenant_id AND s.ref = o.subscriber_ref AND s.archived_at IS NULL
        LEFT JOIN network_profiles n ON n.subscriber_id = s.id
        LEFT JOIN billing_services b ON b.subscriber_id = s.id AND b.status <> 'ended'
        LEFT JOIN radcheck r ON r.username = lastmile_radius_username(o.subscriber_ref, o.tenant_id)
                            AND r.attribute = 'Cleartext-Password'
        WHERE {_CREATES_LINE.format("o")} AND {_SETTLED.format("o")}
          AND (s.id IS NULL OR n.id IS NULL OR b.id IS NULL OR r.id IS NULL)
        """,
        "deprovision the subscriber and provision it anew",
    ),
    Invariant(
        "taken_away",
        6,
        "a provisioned subscriber holds the addresses that its order gave it",
        f"""
        WITH last_order AS ({_LAST_LINE_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'was given ' || given.address || ' by order ' || o.order_id || ', and does not hold it' AS words
        FROM last_order o JOIN orders whole ON whole.tenant_id = o.tenant_id AND whole.order_id = o.order_id
        CROSS JOIN LATERAL (VALUES
            (whole.result #>> '{{created,ipv6_prefix}}'), (whole.result #>> '{{created,ipv6_framed_prefix}}'),
            (whole.result #>> '{{created,ipv6_address}}'), (whole.result #>> '{{created,ipv4_address}}')
        ) given (address)
        LEFT JOIN delegations d ON d.tenant_id = o.tenant_id AND d.subscriber_ref = o.subscriber_ref
                               AND d.released_at IS NULL AND host(d.prefix) = host(given.address::inet)
        WHERE {_CREATES_LINE.format("o")} AND {_SETTLED.format("o")} AND given.address IS NOT NULL AND d.id IS NULL
        """,
        "deprovision the subscriber and provision it anew",
    ),
    Invariant(
        "not_taken_down",
        6,
        "a deprovisioned subscriber has nothing",
        f"""
        WITH last_order AS ({_LAST_LINE_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'deprovisioned by order ' || o.order_id || ', and still has ' || concat_ws(', ',
                   CASE WHEN s.id IS NOT NULL THEN 'a subscriber record' END,
                   CASE WHEN n.id IS NOT NULL THEN 'a network profile' END,
                   CASE WHEN r.id IS NOT NULL THEN 'a RADIUS account' END,
                   CASE WHEN d.id IS NOT NULL THEN 'prefix ' || coalesce(d.prefix::text, 'to come') END) AS words
        FROM last_order o
        LEFT JOIN subscribers s ON s.tenant_id = o.tenant_id AND s.ref = o.subscriber_ref AND s.archived_at IS NULL
        LEFT JOIN delegations d ON d.tenant_id = o.tenant_id AND d.subscriber_ref = o.subscriber_ref
                               AND d.released_at IS NULL
        LEFT JOIN radcheck r ON r.username = lastmile_radius_username(o.subscriber_ref, o.tenant_id)
                            AND r.attribute = 'Cleartext-Password'
        -- Also that of an archived record: it keeps its devices from every other line.
        LEFT JOIN (network_profiles n JOIN subscribers owner ON owner.id = n.subscriber_id)
               ON owner.tenant_id = o.tenant_id AND owner.ref = o.subscriber_ref
        WHERE {_ENDS_LINE.format("o")} AND {_SETTLED.format("o")}
          AND (s.id IS NOT NULL OR d.id IS NOT NULL OR r.id IS NOT NULL OR n.id IS NOT NULL)
        """,
        "deprovision the subscriber again",
    ),
    Invariant(
        "not_active",
        6,
        "no finished order left an address unused",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               'allocated to ' || d.subscriber_ref || ' by order ' || d.created_by_order
               || ', which ended ' || o.status || ' without activating it' AS words
        FROM delegations d JOIN orders o ON o.tenant_id = d.tenant_id AND o.order_id = d.created_by_order
        WHERE d.state = 'allocated' AND {_ENDED.format("o")}
          AND {of_tenant("d.tenant_id")}
          AND {_AT_REST.format("d")}
        """,
        "`--repair` activates it where the subscriber has an account; it takes effect at the next login",
        repair=f"""
        WITH moved AS (
            UPDATE delegations d SET state = 'active', state_since = now()
            WHERE d.id = CAST(CAST(:key AS text) AS bigint) AND d.state = 'allocated'
              AND EXISTS (SELECT FROM radcheck c WHERE c.username = {USER})
            RETURNING d.*
        ), recorded AS (
            INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref,
                                           from_state, to_state, order_id, reason)
            SELECT tenant_id, id, prefix, subscriber_ref, 'allocated', 'active', created_by_order,
                   'repaired by the audit'
            FROM moved
        )
        INSERT INTO radreply (username, attribute, op, value)
        SELECT {USER}, {ATTRIBUTE}, ':=', {VALUE} FROM moved d ON CONFLICT DO NOTHING
        """,
    ),
    Invariant(
        "unfinished",
        6,
        "no order takes longer than a day",
        f"""
        SELECT tenant_id AS tenant, order_id AS subject, order_id AS key,
               operation || ' of ' || subscriber_ref || ' is ' || replace(status, '_', ' ') || ' since '
               || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC' AS words
        FROM orders
        WHERE status IN ('running', 'rolling_back') AND created_at < now() - interval '1 day'
          AND {of_tenant("tenant_id")}
        """,
        "`lastmile status SUBSCRIBER` tells what it waits for; where no run is open, send the subscriber's next order",
    ),
    Invariant(
        "not_given",
        6,
        "no finished order left an allocation half done",
        f"""
        SELECT d.tenant_id AS tenant, d.subscriber_ref AS subject, d.id::text AS key,
               'waits for a prefix for ' || d.purpose || ' (' || d.state || ') since order ' || d.created_by_order
               || ', which ended ' || o.status AS words
        FROM delegations d JOIN orders o ON o.tenant_id = d.tenant_id AND o.order_id = d.created_by_order
        WHERE d.state IN ('pending', 'failed') AND {_ENDED.format("o")}
          AND {of_tenant("d.tenant_id")}
          AND {_AT_REST.format("d")}
        """,
        "deprovision the subscriber",
    ),
    Invariant(
        "not_released",
        3,
        "no revoked address keeps its place without an order that releases it",
        f"""
        SELECT d.tenant_id AS tenant, coalesce(d.prefix::text, d.subscriber_ref) AS subject, d.id::text AS key,
               'revoked from ' || d.subscriber_ref || ', and not released: nobody else can get it' AS words
        FROM delegations d
        WHERE d.state = 'revoked' AND d.released_at IS NULL AND {of_tenant("d.tenant_id")}
          AND {_AT_REST.format("d")}
        """,
        "the daily cleanup releases it after an hour, as `lastmile cleanup` does",
    ),
    Invariant(
        "blocked_in_service",
        6,
        "the account of a provisioned line may log in",
        f"""
        WITH last_order AS ({_LAST_LINE_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'provisioned by order ' || o.order_id || ', and RADIUS refuses its logins: order '
               || r.created_by_order || ' has blocked the account' AS words
        FROM last_order o
        -- A block without an order is a person's.
        JOIN radcheck r ON r.username = lastmile_radius_username(o.subscriber_ref, o.tenant_id)
                       AND r.attribute = 'Auth-Type' AND r.created_by_order IS NOT NULL
        WHERE {_CREATES_LINE.format("o")} AND {_SETTLED.format("o")}
        """,
        "provision the subscriber with a new order of the same content, or deprovision it, whichever it should be",
    ),
    Invariant(
        "billed_without_line",
        6,
        "no service is charged for without a line",
        f"""
        SELECT s.tenant_id AS tenant, s.ref AS subject, b.id::text AS key,
               'is charged for plan ' || b.plan || ', and '
               || CASE WHEN s.archived_at IS NOT NULL THEN 'was deprovisioned'
                       WHEN account.username IS NULL THEN 'has no RADIUS account'
                       ELSE 'RADIUS refuses its logins' END AS words
        FROM billing_services b JOIN subscribers s ON s.id = b.subscriber_id
        LEFT JOIN radcheck account ON account.username = lastmile_radius_username(s.ref, s.tenant_id)
                                  AND account.attribute = 'Cleartext-Password'
        LEFT JOIN radcheck block ON block.username = lastmile_radius_username(s.ref, s.tenant_id)
                                AND block.attribute = 'Auth-Type' AND block.created_by_order IS NOT NULL
        WHERE b.status = 'active' AND {of_tenant("s.tenant_id")}
          AND (s.archived_at IS NOT NULL OR account.username IS NULL OR block.username IS NOT NULL)
          AND NOT EXISTS (SELECT FROM orders other WHERE other.tenant_id = s.tenant_id
                          AND other.subscriber_ref = s.ref AND other.status IN ('running', 'rolling_back'))
        """,
        "provision the subscriber with a new order of the same content, or deprovision it, whichever it should be",
    ),
    Invariant(
        "cut_off",
        6,
        "no order was ended from outside and left as it stood",
        f"""
        WITH last_order AS ({_last_order()})
        SELECT o.tenant_id AS tenant, o.order_id AS subject, o.order_id AS key,
               o.operation || ' of ' || o.subscriber_ref || ' is ' || o.status
               || ', and nothing has put the subscriber right since' AS words
        FROM last_order o
        WHERE o.status IN ('abandoned', 'superseded')
        """,
        "provision or deprovision the subscriber, whichever it should be",
    ),
)
