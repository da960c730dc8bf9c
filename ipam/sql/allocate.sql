-- Find the delegation that the key or the subscriber has; else claim a free slot and record who holds it.
--
-- No row: no slot is free within reach, or another attempt with the same key has won at this moment.
--
-- Variants:
--   lock  `FOR UPDATE OF s SKIP LOCKED` passes over slots that another allocation is claiming at this moment.
--         `FOR UPDATE OF s` waits for it, so that "none left" is true when it is said.
--   slot  `true`, or the condition that the slot is that of :address. A variant and not `:address IS NULL OR …`: for
--         that PostgreSQL would not keep a generic plan, and would plan each allocation anew.
--
-- Plan: a generic plan that reads a handful of rows, whatever the size and the use of the pool.
--   held        one look-up in delegations_key and one in delegations_live; one look-up with OR would take
--               delegations_by_subscriber alone.
--   candidates  pools_by_purpose, since lastmile_pool_is_candidate is inlined.
--   own         slots_by_last_holder.
--   rested      the first rows of slots_free, in its order.
WITH held AS (
    SELECT id, tenant_id, pool_id, slot, prefix::text, netbox_id, subscriber_ref, purpose, allocation_key,
           created_by_order, state, state_since, disconnect_confirmed, released_at,
           replaced_by_order, replaced_at, replaced_until,
           (SELECT vrf FROM pools WHERE pools.id = pool_id) AS vrf
    FROM delegations WHERE tenant_id = :tenant AND allocation_key = :key
    UNION ALL
    SELECT id, tenant_id, pool_id, slot, prefix::text, netbox_id, subscriber_ref, purpose, allocation_key,
           created_by_order, state, state_since, disconnect_confirmed, released_at,
           replaced_by_order, replaced_at, replaced_until,
           (SELECT vrf FROM pools WHERE pools.id = pool_id) AS vrf
    FROM delegations
    WHERE tenant_id = :tenant AND subscriber_ref = :subscriber_ref AND purpose = :purpose AND state <> 'revoked'
      AND replaced_by_order IS NULL
    LIMIT 1
), candidates AS ( -- in the order of preference: the tenant's own pools, then those that serve every tenant
    SELECT id, prefix, delegated_length, vrf,
           CAST(:address AS inet) IS NOT NULL OR count(*) FILTER (WHERE lastmile_pool_can_grow(pools)) OVER (
               ORDER BY tenant_id NULLS LAST, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) = 0 AS in_turn
    FROM pools
    WHERE mode <> 'direct' AND NOT EXISTS (SELECT FROM held)
      AND lastmile_pool_is_candidate(pools, :purpose, :length, :vrf, :pool, :region, :address)
    ORDER BY tenant_id NULLS LAST, id
), own AS ( -- what this subscriber had before, also out of quarantine (RIPE-690: persistent prefixes)
    SELECT s.pool_id, s.slot, c.prefix, c.delegated_length, c.vrf FROM candidates c JOIN slots s ON s.pool_id = c.id
    WHERE s.last_holder = :holder AND {slot}
    ORDER BY s.free_at DESC LIMIT 1 {lock}
), rested AS ( -- not of a pool while one before it has room beyond its frontier: that one grows first
    SELECT f.pool_id, f.slot, c.prefix, c.delegated_length, c.vrf FROM candidates c CROSS JOIN LATERAL (
        SELECT s.pool_id, s.slot FROM slots s
        WHERE c.in_turn AND s.pool_id = c.id AND s.delegation_id IS NULL AND s.free_at <= now() AND {slot}
        ORDER BY s.free_at, s.slot LIMIT 1 {lock}
    ) f LIMIT 1
), claimed AS (
    SELECT * FROM own UNION ALL SELECT * FROM rested LIMIT 1
), made AS (
    INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                             created_by_order, state)
    SELECT :tenant, pool_id, slot, lastmile_nth_prefix(prefix, delegated_length, slot), :subscriber_ref, :purpose, :key,
           :order_id, 'allocated'
    FROM claimed
    ON CONFLICT DO NOTHING
    RETURNING id, tenant_id, pool_id, slot, prefix::text, netbox_id, subscriber_ref, purpose, allocation_key,
              created_by_order, state, state_since, disconnect_confirmed, released_at, replaced_by_order, replaced_at,
              replaced_until, (SELECT vrf FROM claimed) AS vrf
), taken AS (
    UPDATE slots s SET delegation_id = m.id, last_holder = NULL
    FROM made m WHERE s.pool_id = m.pool_id AND s.slot = m.slot
), recorded AS (
    INSERT INTO delegation_events (tenant_id, delegation_id, prefix, vrf, subscriber_ref, from_state, to_state,
                                   order_id, reason)
    SELECT :tenant, id, prefix::cidr, vrf, subscriber_ref, 'pending', 'allocated', :order_id, 'allocated' FROM made
)
SELECT *, true AS created FROM made UNION ALL SELECT *, false FROM held
