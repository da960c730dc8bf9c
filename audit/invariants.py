"""The invariants (DESIGN section 4), each as one query over everything that returns what breaks it.

A query sees all tenants or, with `:tenant`, one. Its rows have `tenant` and `subject` (what a person looks for)
and `words`; `key` is what mending needs. Nothing here reads row by row: each is a join or an anti-join.
"""

from dataclasses import dataclass

__all__ = ["INVARIANTS", "Invariant"]


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing that must hold."""

    name: str
    number: int
    """In DESIGN section 4."""
    meaning: str
    query: str
    remedy: str
    """What a person does about a violation."""
    mend: str | None = None
    """One statement, for `:key`, that repairs a violation; None where only a person can decide."""


def _of_tenant(column: str) -> str:
    return f"(CAST(:tenant AS text) IS NULL OR {column} = :tenant)"


_USER = "d.subscriber_ref || '@' || d.tenant_id || '.lastmile'"
_ATTRIBUTE = """CASE d.purpose WHEN 'ipv6_pd' THEN 'Delegated-IPv6-Prefix' WHEN 'ipv6_framed' THEN 'Framed-IPv6-Prefix'
                WHEN 'ipv6_address' THEN 'Framed-IPv6-Address' ELSE 'Framed-IP-Address' END"""
_VALUE = "CASE WHEN d.purpose IN ('ipv4', 'ipv6_address') THEN host(d.prefix) ELSE d.prefix::text END"
_OURS = "('Delegated-IPv6-Prefix', 'Framed-IPv6-Prefix', 'Framed-IPv6-Address', 'Framed-IP-Address')"
_ALL_ONES = "set_masklen(broadcast({prefix}), CASE family({prefix}) WHEN 4 THEN 32 ELSE 128 END)"
_FIRST = "set_masklen({prefix}::inet, CASE family({prefix}) WHEN 4 THEN 32 ELSE 128 END)"

# The last order that changed what a subscriber has. An order that was rolled back changed nothing.
_LAST_ORDER = f"""
    SELECT DISTINCT ON (tenant_id, subscriber_ref) tenant_id, subscriber_ref, order_id, operation, status
    FROM orders WHERE status <> 'rolled_back' AND {_of_tenant("tenant_id")}
    ORDER BY tenant_id, subscriber_ref, created_at DESC, order_id
"""
_SETTLED = "o.status IN ('completed', 'degraded')"

# Every table that says which order made its rows.
_MADE = {
    "customer": "SELECT tenant_id, created_by_order, ref AS what FROM customers",
    "subscriber": "SELECT tenant_id, created_by_order, ref AS what FROM subscribers",
    "network profile": "SELECT tenant_id, created_by_order, id::text AS what FROM network_profiles",
    "RADIUS account": "SELECT tenant_id, created_by_order, username AS what FROM radcheck",
    "billing service": "SELECT tenant_id, created_by_order, id::text AS what FROM billing_services",
    "device": "SELECT tenant_id, created_by_order, kind || ' of ' || subscriber_ref AS what FROM devices",
    "prefix": "SELECT tenant_id, created_by_order, prefix::text AS what FROM delegations WHERE released_at IS NULL",
}
_MADE_BY_ORDER = " UNION ALL ".join(
    f"SELECT '{kind}' AS kind, made.* FROM ({query}) made WHERE made.created_by_order IS NOT NULL"
    for kind, query in _MADE.items()
)

INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "overlap",
        1,
        "no two live delegations overlap",
        f"""
        SELECT tenant_id AS tenant, prefix::text AS subject, id::text AS key,
               'held by ' || subscriber_ref || ', and another live delegation reaches into it' AS words
        FROM (SELECT d.*, max({_ALL_ONES.format(prefix="d.prefix")}) OVER (
                     PARTITION BY p.vrf, family(d.prefix) ORDER BY {_FIRST.format(prefix="d.prefix")}, d.id
                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
              FROM delegations d JOIN pools p ON p.id = d.pool_id WHERE d.released_at IS NULL) ordered
        WHERE reached >= {_FIRST.format(prefix="prefix")} AND {_of_tenant("tenant_id")}
        """,
        "deprovision one of the two subscribers and provision it anew",
    ),
    Invariant(
        "misplaced",
        1,
        "every delegation's prefix is the one of its slot",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               'slot ' || d.slot || ' of pool ' || p.name || ' is another prefix' AS words
        FROM delegations d JOIN pools p ON p.id = d.pool_id
        WHERE d.released_at IS NULL AND {_of_tenant("d.tenant_id")}
          AND d.prefix <> lastmile_nth_prefix(p.prefix, p.delegated_length, d.slot)
        """,
        "find out who changed the pool or the delegation by hand, and change it back",
    ),
    Invariant(
        "second_delegation",
        2,
        "at most one live delegation per subscriber and purpose",
        f"""
        SELECT tenant_id AS tenant, subscriber_ref AS subject, min(id)::text AS key,
               count(*) || ' live delegations for ' || purpose AS words
        FROM delegations WHERE state <> 'revoked' AND {_of_tenant("tenant_id")}
        GROUP BY tenant_id, subscriber_ref, purpose HAVING count(*) > 1
        """,
        "deprovision the subscriber and provision it anew",
    ),
    Invariant(
        "leaked_slot",
        3,
        "every taken slot has its delegation",
        f"""
        SELECT s.tenant_id AS tenant, lastmile_nth_prefix(p.prefix, p.delegated_length, s.slot)::text AS subject,
               s.pool_id || '/' || s.slot AS key, 'taken, and no delegation holds it' AS words
        FROM slots s JOIN pools p ON p.id = s.pool_id
        LEFT JOIN delegations d ON d.id = s.delegation_id AND d.released_at IS NULL
                               AND d.pool_id = s.pool_id AND d.slot = s.slot
        WHERE s.delegation_id IS NOT NULL AND d.id IS NULL AND {_of_tenant("s.tenant_id")}
        """,
        "`--mend` puts it into quarantine",
        mend="""
        UPDATE slots SET delegation_id = NULL, free_at = now() + CAST(:quarantine AS interval)
        WHERE pool_id = split_part(:key, '/', 1)::bigint AND slot = split_part(:key, '/', 2)::bigint
          AND NOT EXISTS (SELECT FROM delegations d WHERE d.id = slots.delegation_id AND d.released_at IS NULL)
        """,
    ),
    Invariant(
        "slotless",
        3,
        "every delegation that was not released holds its slot",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               'held by ' || d.subscriber_ref || ', and its slot says otherwise' AS words
        FROM delegations d LEFT JOIN slots s
          ON s.pool_id = d.pool_id AND s.slot = d.slot AND s.delegation_id = d.id
        WHERE d.released_at IS NULL AND s.slot IS NULL AND {_of_tenant("d.tenant_id")}
        """,
        "`--mend` takes the slot for it, unless another delegation holds it",
        mend="""
        INSERT INTO slots (pool_id, slot, tenant_id, delegation_id, last_holder)
        SELECT d.pool_id, d.slot, p.tenant_id, d.id, d.tenant_id || '/' || d.subscriber_ref || '/' || d.purpose
        FROM delegations d JOIN pools p ON p.id = d.pool_id
        WHERE d.id = CAST(CAST(:key AS text) AS bigint) AND d.released_at IS NULL
        ON CONFLICT (pool_id, slot) DO UPDATE
        SET delegation_id = excluded.delegation_id, last_holder = excluded.last_holder
        WHERE slots.delegation_id IS NULL
        """,
    ),
    Invariant(
        "not_in_radius",
        5,
        "every active delegation is in radreply",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               'active for ' || d.subscriber_ref || ', and RADIUS does not hand it out' AS words
        FROM delegations d LEFT JOIN radreply r
          ON r.username = {_USER} AND r.attribute = {_ATTRIBUTE} AND r.value = {_VALUE}
        WHERE d.state = 'active' AND r.id IS NULL AND {_of_tenant("d.tenant_id")}
        """,
        "`--mend` writes it; it takes effect at the next login",
        mend=f"""
        INSERT INTO radreply (username, attribute, op, value)
        SELECT {_USER}, {_ATTRIBUTE}, ':=', {_VALUE}
        FROM delegations d WHERE d.id = CAST(CAST(:key AS text) AS bigint) AND d.state = 'active' ON CONFLICT DO NOTHING
        """,
    ),
    Invariant(
        "only_in_radius",
        5,
        "no address in radreply without its active delegation",
        f"""
        SELECT r.tenant_id AS tenant, r.username AS subject, r.id::text AS key,
               r.attribute || ' ' || r.value || ' is handed out, and no active delegation stands behind it' AS words
        FROM radreply r LEFT JOIN delegations d
          ON d.state = 'active' AND r.username = {_USER} AND r.attribute = {_ATTRIBUTE} AND r.value = {_VALUE}
        WHERE r.attribute IN {_OURS} AND d.id IS NULL AND {_of_tenant("r.tenant_id")}
        """,
        "`--mend` removes it from radreply; end a live session that uses it",
        mend=f"""
        DELETE FROM radreply r WHERE r.id = CAST(CAST(:key AS text) AS integer) AND NOT EXISTS (
            SELECT FROM delegations d
            WHERE d.state = 'active' AND r.username = {_USER} AND r.attribute = {_ATTRIBUTE} AND r.value = {_VALUE})
        """,
    ),
    Invariant(
        "left_behind",
        6,
        "an order that was rolled back left nothing",
        f"""
        SELECT o.tenant_id AS tenant, o.order_id AS subject, made.kind || ' ' || made.what AS key,
               'was rolled back, and left ' || made.kind || ' ' || made.what AS words
        FROM orders o JOIN ({_MADE_BY_ORDER}) made
          ON made.tenant_id = o.tenant_id AND made.created_by_order = o.order_id
        WHERE o.status = 'rolled_back' AND {_of_tenant("o.tenant_id")}
        """,
        "an undo was skipped: finish by hand what the operator's note says, or deprovision the subscriber",
    ),
    Invariant(
        "incomplete",
        6,
        "a provisioned subscriber has all that its order made",
        f"""
        WITH last_order AS ({_LAST_ORDER})
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
        LEFT JOIN radcheck r ON r.username = o.subscriber_ref || '@' || o.tenant_id || '.lastmile'
                            AND r.attribute = 'Cleartext-Password'
        WHERE o.operation = 'provision' AND {_SETTLED}
          AND (s.id IS NULL OR n.id IS NULL OR b.id IS NULL OR r.id IS NULL)
        """,
        "deprovision the subscriber and provision it anew",
    ),
    Invariant(
        "not_taken_down",
        6,
        "a deprovisioned subscriber has nothing",
        f"""
        WITH last_order AS ({_LAST_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'deprovisioned by order ' || o.order_id || ', and still has ' || concat_ws(', ',
                   CASE WHEN s.id IS NOT NULL THEN 'a subscriber record' END,
                   CASE WHEN r.id IS NOT NULL THEN 'a RADIUS account' END,
                   CASE WHEN d.id IS NOT NULL THEN 'prefix ' || d.prefix END) AS words
        FROM last_order o
        LEFT JOIN subscribers s ON s.tenant_id = o.tenant_id AND s.ref = o.subscriber_ref AND s.archived_at IS NULL
        LEFT JOIN delegations d ON d.tenant_id = o.tenant_id AND d.subscriber_ref = o.subscriber_ref
                               AND d.released_at IS NULL
        LEFT JOIN radcheck r ON r.username = o.subscriber_ref || '@' || o.tenant_id || '.lastmile'
                            AND r.attribute = 'Cleartext-Password'
        WHERE o.operation = 'deprovision' AND {_SETTLED}
          AND (s.id IS NOT NULL OR d.id IS NOT NULL OR r.id IS NOT NULL)
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
        WHERE d.state = 'allocated' AND o.status NOT IN ('running', 'rolling_back', 'rolled_back')
          AND {_of_tenant("d.tenant_id")}
        """,
        "`--mend` activates it where the subscriber has an account; it takes effect at the next login",
        mend=f"""
        WITH moved AS (
            UPDATE delegations d SET state = 'active', state_since = now()
            WHERE d.id = CAST(CAST(:key AS text) AS bigint) AND d.state = 'allocated'
              AND EXISTS (SELECT FROM radcheck c WHERE c.username = {_USER})
            RETURNING d.*
        ), recorded AS (
            INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref,
                                           from_state, to_state, order_id, reason)
            SELECT tenant_id, id, prefix, subscriber_ref, 'allocated', 'active', created_by_order, 'mended by the audit'
            FROM moved
        )
        INSERT INTO radreply (username, attribute, op, value)
        SELECT {_USER}, {_ATTRIBUTE}, ':=', {_VALUE} FROM moved d ON CONFLICT DO NOTHING
        """,
    ),
    Invariant(
        "cut_off",
        6,
        "no order was ended from outside and left as it stood",
        f"""
        WITH last_order AS ({_LAST_ORDER})
        SELECT o.tenant_id AS tenant, o.order_id AS subject, o.order_id AS key,
               o.operation || ' of ' || o.subscriber_ref || ' is ' || o.status
               || ', and nothing has put the subscriber right since' AS words
        FROM last_order o
        WHERE o.status IN ('abandoned', 'superseded')
        """,
        "provision or deprovision the subscriber, whichever it should be",
    ),
)
