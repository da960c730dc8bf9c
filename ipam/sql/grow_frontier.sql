-- Bring the next :batch slots of the first candidate with room within reach, past an excluded range at the frontier.
--
-- One UPDATE, and not a lock and then an UPDATE: in a burst of allocations those two deadlock. A slot that has its row
-- keeps it: one that the last, shorter batch of the pool overlaps, or a static address ahead of the frontier.
--
-- Plan: pools_by_purpose; the row lock of one pool, which one in :batch allocations takes.
WITH moved AS (
    UPDATE pools SET frontier = least(end_slot, CAST(:batch AS bigint) + coalesce(
        (SELECT upper(gap) FROM unnest(excluded) gap WHERE gap @> frontier), frontier))
    WHERE lastmile_pool_can_grow(pools) AND id = (
        SELECT id FROM pools
        WHERE mode <> 'direct' AND lastmile_pool_can_grow(pools)
          AND lastmile_pool_is_candidate(pools, :purpose, :length, :vrf, :pool, :region, :address)
        ORDER BY tenant_id NULLS LAST, id LIMIT 1)
    RETURNING id, tenant_id, excluded, frontier AS beyond,
              greatest(first_slot, frontier - CAST(:batch AS bigint)) AS first
)
INSERT INTO slots (pool_id, slot, tenant_id)
SELECT id, slot, tenant_id FROM moved, generate_series(first, beyond - 1) AS slot
WHERE NOT slot <@ excluded
ON CONFLICT DO NOTHING
