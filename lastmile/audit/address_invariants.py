"""The invariants of addresses: each is assigned once, has its slot, and agrees with NetBox and RADIUS."""

from lastmile.audit.invariant import Invariant, tenant_condition
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES

__all__ = ["ADDRESS_INVARIANTS"]

_ADDRESS_ATTRIBUTES = str(tuple(REPLY_ATTRIBUTES.values()))
_ALL_ONES = "set_masklen(broadcast({prefix}), CASE family({prefix}) WHEN 4 THEN 32 ELSE 128 END)"
# The RADIUS value for the VRF of pool `p`.
_VRF_VALUE = "replace(CAST(:vrf_template AS text), '{vrf}', p.vrf)"
_FIRST = "set_masklen({prefix}::inet, CASE family({prefix}) WHEN 4 THEN 32 ELSE 128 END)"

ADDRESS_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "overlap",
        1,
        "no two live delegations overlap",
        f"""
        SELECT tenant_id AS tenant, prefix::text AS subject, id::text AS key,
               'held by ' || subscriber_ref || ', and overlaps ' || (
                   SELECT string_agg(other.prefix || ' of ' || other.subscriber_ref || ', tenant ' || other.tenant_id,
                                     '; ' ORDER BY other.id)
                   FROM delegations other JOIN pools p ON p.id = other.pool_id
                   WHERE other.prefix && ordered.prefix AND other.id <> ordered.id AND other.released_at IS NULL
                     AND p.vrf = ordered.vrf) AS words
        FROM (SELECT d.*, p.vrf, max({_ALL_ONES.format(prefix="d.prefix")}) OVER (
                     PARTITION BY p.vrf, family(d.prefix) ORDER BY {_FIRST.format(prefix="d.prefix")}, d.id
                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
              FROM delegations d JOIN pools p ON p.id = d.pool_id WHERE d.released_at IS NULL) ordered
        WHERE reached >= {_FIRST.format(prefix="prefix")} AND {tenant_condition("tenant_id")}
        """,
        "if two pools overlap, close one of them (`lastmile pool close`); then renumber its subscriber "
        "(`lastmile renumber`)",
    ),
    Invariant(
        "misplaced",
        1,
        "every delegation's prefix belongs to its slot, or was allocated by NetBox from its pool",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               coalesce('differs from the prefix of slot ' || d.slot || ' of pool ' || p.name,
                        'is not a /' || p.delegated_length || ' of pool ' || p.name) AS words
        FROM delegations d JOIN pools p ON p.id = d.pool_id
        WHERE d.released_at IS NULL AND {tenant_condition("d.tenant_id")}
          AND CASE WHEN d.slot IS NULL THEN NOT (d.prefix <<= p.prefix AND masklen(d.prefix) = p.delegated_length)
                   ELSE d.prefix <> lastmile_nth_prefix(p.prefix, p.delegated_length, d.slot) END
        """,
        "undo the manual change of the pool or the delegation",
    ),
    Invariant(
        "second_delegation",
        2,
        "at most one live delegation per subscriber and purpose, beside those that an order replaces",
        f"""
        SELECT tenant_id AS tenant, subscriber_ref AS subject, min(id)::text AS key,
               count(*) || ' live delegations for ' || purpose AS words
        FROM delegations WHERE state <> 'revoked' AND replaced_by_order IS NULL AND {tenant_condition("tenant_id")}
        GROUP BY tenant_id, subscriber_ref, purpose HAVING count(*) > 1
        """,
        "deprovision the subscriber and provision it again",
    ),
    Invariant(
        "endless_overlap",
        2,
        "every replaced prefix has an order that releases it, one hour after the end of the overlap at the latest",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               'replaced for ' || d.subscriber_ref || ' by order ' || d.replaced_by_order || ', which '
               || CASE WHEN o.order_id IS NULL THEN 'does not exist'
                       WHEN lastmile_order_unfinished(o.status) THEN 'should have released it at '
                            || to_char(d.replaced_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC'
                       ELSE 'ended ' || replace(o.status, '_', ' ') || ' without releasing it' END AS words
        FROM delegations d LEFT JOIN orders o ON o.tenant_id = d.tenant_id AND o.order_id = d.replaced_by_order
        WHERE d.replaced_by_order IS NOT NULL AND d.released_at IS NULL AND {tenant_condition("d.tenant_id")}
          AND (o.order_id IS NULL OR NOT lastmile_order_unfinished(o.status)
               OR d.replaced_until < now() - interval '1 hour')
        """,
        "`lastmile status SUBSCRIBER` shows whether its run waits for an operator. If no run is open, send a new "
        "renumber order, or deprovision the subscriber",
    ),
    Invariant(
        "leaked_slot",
        3,
        "every occupied slot has its delegation",
        f"""
        SELECT s.tenant_id AS tenant, lastmile_nth_prefix(p.prefix, p.delegated_length, s.slot)::text AS subject,
               s.pool_id || '/' || s.slot AS key, 'occupied, but no delegation holds it' AS words
        FROM slots s JOIN pools p ON p.id = s.pool_id
        LEFT JOIN delegations d ON d.id = s.delegation_id AND d.released_at IS NULL
                               AND d.pool_id = s.pool_id AND d.slot = s.slot
        WHERE s.delegation_id IS NOT NULL AND d.id IS NULL AND {tenant_condition("s.tenant_id")}
        """,
        "`--repair` puts it into quarantine",
        repair="""
        UPDATE slots SET delegation_id = NULL,
               free_at = CASE WHEN slot <@ (SELECT p.excluded FROM pools p WHERE p.id = slots.pool_id) THEN 'infinity'
                              ELSE now() + CAST(:quarantine AS interval) END,
               last_holder = (SELECT lastmile_holder(d.tenant_id, d.subscriber_ref, d.purpose)
                              FROM delegations d WHERE d.id = slots.delegation_id)
        WHERE pool_id = split_part(:key, '/', 1)::bigint AND slot = split_part(:key, '/', 2)::bigint
          AND delegation_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM delegations d WHERE d.id = slots.delegation_id AND d.released_at IS NULL
                          AND d.pool_id = slots.pool_id AND d.slot = slots.slot)
        """,
    ),
    Invariant(
        "slotless",
        3,
        "every unreleased delegation holds its slot",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               'held by ' || d.subscriber_ref || ', but not recorded in its slot' AS words
        FROM delegations d JOIN pools p ON p.id = d.pool_id AND p.mode <> 'direct'
        LEFT JOIN slots s ON s.pool_id = d.pool_id AND s.slot = d.slot AND s.delegation_id = d.id
        WHERE d.released_at IS NULL AND s.slot IS NULL AND {tenant_condition("d.tenant_id")}
        """,
        "`--repair` assigns the slot to the delegation, unless another delegation holds the slot",
        repair="""
        INSERT INTO slots (pool_id, slot, tenant_id, delegation_id)
        SELECT d.pool_id, d.slot, p.tenant_id, d.id
        FROM delegations d JOIN pools p ON p.id = d.pool_id AND p.mode <> 'direct'
        WHERE d.id = CAST(CAST(:key AS text) AS bigint) AND d.released_at IS NULL AND d.slot IS NOT NULL
          AND NOT EXISTS (SELECT FROM slots s WHERE s.delegation_id = d.id)
        FOR UPDATE OF d
        ON CONFLICT (pool_id, slot) DO UPDATE
        SET delegation_id = excluded.delegation_id, last_holder = NULL
        WHERE slots.delegation_id IS NULL
        """,
    ),
    Invariant(
        "miscounted",
        3,
        "the counters of delegations agree with the delegations",
        f"""
        SELECT w.tenant_id AS tenant, w.tenant_id AS subject, w.tenant_id AS key,
               string_agg('pool ' || coalesce(name, pool_id::text) || ' has ' || there || ' ' || state
                          || ' delegations, but the counter says ' || counted, '; ' ORDER BY name, state) AS words
        FROM (SELECT tenant_id, pool_id, state, sum(there) AS there, sum(counted) AS counted
              FROM (SELECT tenant_id, pool_id, state, held, in_netbox, number, 0 FROM delegation_census UNION ALL
                    SELECT tenant_id, pool_id, state, held, in_netbox, 0, number FROM delegation_counts
                   ) both_counts (tenant_id, pool_id, state, held, in_netbox, there, counted)
              WHERE {tenant_condition("tenant_id")}
              GROUP BY tenant_id, pool_id, state, held, in_netbox HAVING sum(there) <> sum(counted)) w
        LEFT JOIN pools p ON p.id = w.pool_id
        GROUP BY w.tenant_id
        """,
        "`--repair` recounts; find the change of delegations that bypassed the database triggers",
        repair="SELECT FROM lastmile_recount(:key) AS wrong WHERE wrong > 0",
    ),
    Invariant(
        "overdue_in_netbox",
        4,
        "released prefixes are removed from NetBox in time",
        f"""
        SELECT r.tenant_id AS tenant, coalesce(r.prefix::text, r.allocation_key) AS subject, r.allocation_key AS key,
               'released, and due for removal from pool ' || p.name || ' in NetBox since '
               || to_char(r.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC' AS words
        FROM netbox_removals r JOIN pools p ON p.id = r.pool_id
        WHERE r.due_at < now() - interval '1 day' AND {tenant_condition("r.tenant_id")}
        """,
        "check that workers reach NetBox and may delete there: every release removes some of the due prefixes",
    ),
    Invariant(
        "behind_in_netbox",
        4,
        "every prefix is recorded in NetBox in time",
        f"""
        SELECT r.tenant_id AS tenant, lastmile_nth_prefix(p.prefix, p.delegated_length, r.slot)::text AS subject,
               r.pool_id || '/' || r.slot AS key,
               coalesce('NetBox refuses the record: ' || r.problem,
                        'not recorded in NetBox since ' || to_char(r.since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
                        || ' UTC') AS words
        FROM netbox_records r JOIN pools p ON p.id = r.pool_id
        WHERE (r.problem IS NOT NULL OR r.since < now() - interval '1 hour') AND {tenant_condition("r.tenant_id")}
        """,
        "fix the problem in NetBox, or check that workers reach NetBox: workers retry by themselves",
    ),
    Invariant(
        "foreign_prefix_in_block",
        4,
        "blocks contain no foreign prefix in NetBox",
        f"""
        SELECT n.tenant_id AS tenant, n.prefix::text AS subject, n.pool_id || '/' || n.netbox_id AS key,
               'a foreign prefix in NetBox (' || coalesce(nullif(n.description, ''), 'no description')
               || '), inside a block of pool ' || p.name || coalesce(', and ' || (
                   SELECT string_agg(d.subscriber_ref || ' holds ' || d.prefix, ', ' ORDER BY d.id)
                   FROM delegations d WHERE d.pool_id = n.pool_id AND d.released_at IS NULL AND d.prefix && n.prefix),
               ', and withheld from subscribers') AS words
        FROM netbox_foreign_prefixes n JOIN pools p ON p.id = n.pool_id WHERE {tenant_condition("n.tenant_id")}
        """,
        "move the foreign prefix out of the block in NetBox; if a subscriber holds an overlapping prefix, renumber "
        "the subscriber first (`lastmile renumber`)",
    ),
    Invariant(
        "not_in_radius",
        5,
        "every active or suspended delegation is in radreply",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               d.state || ' for ' || d.subscriber_ref || ', but RADIUS does not assign it' AS words
        FROM delegation_reply_items d LEFT JOIN radreply r
          ON r.username = d.username AND r.attribute = d.attribute AND r.value = d.value
        WHERE d.assigned AND r.id IS NULL AND {tenant_condition("d.tenant_id")}
        """,
        "`--repair` writes it; it takes effect at the next login",
        repair="""
        WITH locked AS ( -- a concurrent deprovision would remove the item before this statement adds it
            SELECT id FROM delegations
            WHERE id = CAST(CAST(:key AS text) AS bigint) AND state IN ('active', 'suspended')
              AND replaced_at IS NULL FOR UPDATE
        )
        INSERT INTO radreply (username, attribute, op, value)
        SELECT username, attribute, ':=', value FROM delegation_reply_items JOIN locked USING (id)
        ON CONFLICT DO NOTHING
        """,
    ),
    Invariant(
        "only_in_radius",
        5,
        "every address in radreply has its active or suspended delegation",
        f"""
        SELECT r.tenant_id AS tenant, r.username AS subject, r.id::text AS key,
               r.attribute || ' ' || r.value || ' is assigned without an active or suspended delegation' AS words
        FROM radreply r LEFT JOIN delegation_reply_items d
          ON d.assigned AND r.username = d.username AND r.attribute = d.attribute AND r.value = d.value
        WHERE r.attribute IN {_ADDRESS_ATTRIBUTES} AND d.id IS NULL AND {tenant_condition("r.tenant_id")}
        """,
        "`--repair` removes it from radreply if Lastmile manages the user; delete the row of another user by hand. End "
        "a live session that uses it",
        repair="""
        DELETE FROM radreply r
        WHERE r.id = CAST(CAST(:key AS text) AS integer) AND r.tenant_id <> '' AND NOT EXISTS (
            SELECT FROM delegation_reply_items d
            WHERE d.assigned AND r.username = d.username AND r.attribute = d.attribute AND r.value = d.value)
        """,
    ),
    Invariant(
        "vrf_not_in_radius",
        5,
        "RADIUS names the VRF of every line in a VRF, where an attribute for that is configured",
        f"""
        SELECT d.tenant_id AS tenant, d.username AS subject, min(d.id)::text AS key,
               d.subscriber_ref || ' is in VRF ' || p.vrf || ', but RADIUS does not assign that VRF' AS words
        FROM delegation_reply_items d JOIN pools p ON p.id = d.pool_id AND p.vrf <> ''
        LEFT JOIN radreply r ON r.username = d.username AND r.attribute = :vrf_attribute AND r.value = {_VRF_VALUE}
        WHERE d.assigned AND CAST(:vrf_attribute AS text) IS NOT NULL AND r.id IS NULL
          AND {tenant_condition("d.tenant_id")}
        GROUP BY d.tenant_id, d.username, d.subscriber_ref, p.vrf
        """,
        "`--repair` writes it; it takes effect at the next login",
        repair=f"""
        WITH locked AS ( -- a concurrent deprovision would remove the item before this statement adds it
            SELECT id FROM delegations
            WHERE id = CAST(CAST(:key AS text) AS bigint) AND state IN ('active', 'suspended')
              AND replaced_at IS NULL FOR UPDATE
        )
        INSERT INTO radreply (username, attribute, op, value)
        SELECT d.username, CAST(:vrf_attribute AS text), ':=', {_VRF_VALUE}
        FROM delegation_reply_items d JOIN locked USING (id) JOIN pools p ON p.id = d.pool_id
        ON CONFLICT DO NOTHING
        """,
    ),
    Invariant(
        "vrf_only_in_radius",
        5,
        "every VRF in RADIUS has an active address of the line",
        f"""
        SELECT r.tenant_id AS tenant, r.username AS subject, r.id::text AS key,
               r.attribute || ' ' || r.value || ' is assigned, but no address is active in that VRF' AS words
        FROM radreply r LEFT JOIN (delegation_reply_items d JOIN pools p ON p.id = d.pool_id AND p.vrf <> '')
          ON d.assigned AND r.username = d.username AND r.value = {_VRF_VALUE}
        WHERE r.attribute = :vrf_attribute AND r.value LIKE :vrf_pattern AND d.id IS NULL
          AND {tenant_condition("r.tenant_id")}
        """,
        "`--repair` removes it from radreply if Lastmile manages the user; delete the row of another user by hand. End "
        "a live session that uses it",
        repair=f"""
        DELETE FROM radreply r
        WHERE r.id = CAST(CAST(:key AS text) AS integer) AND r.tenant_id <> '' AND NOT EXISTS (
            SELECT FROM delegation_reply_items d JOIN pools p ON p.id = d.pool_id AND p.vrf <> ''
            WHERE d.assigned AND r.username = d.username AND r.value = {_VRF_VALUE})
        """,
    ),
)
