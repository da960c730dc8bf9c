-- The records that NetBox should have at the ids :ids of pool :pool_id, and under the keys :keys of any pool; with the
-- settings of the pool.
--
--   required   the delegation's prefix should be in NetBox
--   in_flight  the record may be about to change, so it is not a difference. For a slot, the outbox has an entry that
--              is due, or that NetBox refused and that is tried again. For a prefix of a direct pool, an order is open,
--              or a release may have left the record: Lastmile searches for it within the hour.
--
-- Plan: the ids by delegations_in_netbox_by_id, netbox_removals_by_id and netbox_records_by_id, the keys by
-- delegations_key; what belongs to each delegation by primary keys.
SELECT p.pool_id, p.name, p.space, p.delegated_length, p.mode, p.prefix_id, p.vrf_id, p.on_release, p.record,
       p.block_length, d.id, d.tenant_id, d.slot, d.prefix::text AS prefix, d.netbox_id, d.subscriber_ref, d.purpose,
       d.allocation_key, d.created_by_order, d.state, d.state_since, d.disconnect_confirmed, d.released_at, p.vrf,
       d.replaced_by_order, d.replaced_at, d.replaced_until,
       CASE WHEN d.slot IS NULL THEN coalesce(x.netbox_id, d.netbox_id) WHEN newest.id = d.id THEN r.netbox_id
            END AS expected_id,
       CASE WHEN d.slot IS NULL THEN d.prefix IS NOT NULL AND (d.released_at IS NULL OR x.prefix IS NOT NULL)
            ELSE p.record = 'prefix' AND newest.id = d.id AND (d.released_at IS NULL OR (
                p.on_release = 'deprecate' AND s.delegation_id IS NULL AND s.free_at > now()
                AND s.free_at < 'infinity')) END AS required,
       CASE WHEN d.slot IS NULL THEN d.prefix IS NULL AND d.released_at IS NULL OR EXISTS (
                SELECT FROM orders o WHERE o.tenant_id = d.tenant_id AND o.subscriber_ref = d.subscriber_ref
                                       AND lastmile_order_unfinished(o.status))
            ELSE p.record = 'prefix'
                 AND (r.since IS NOT NULL OR r.due_at <= now() OR r.claimed_until > now()) IS TRUE END
       OR EXISTS (SELECT FROM netbox_removals y WHERE y.tenant_id = d.tenant_id AND y.pool_id = :pool_id
                  AND y.allocation_key = d.allocation_key AND (y.prefix IS NULL OR y.due_at <= now())) AS in_flight
FROM delegations d JOIN pool_bindings p ON p.pool_id = d.pool_id
LEFT JOIN netbox_removals x ON x.tenant_id = d.tenant_id AND x.allocation_key = d.allocation_key
                           AND x.pool_id = d.pool_id
LEFT JOIN netbox_records r ON r.pool_id = d.pool_id AND r.slot = d.slot
LEFT JOIN slots s ON s.pool_id = d.pool_id AND s.slot = d.slot
LEFT JOIN LATERAL (
    SELECT id FROM delegations n WHERE n.pool_id = d.pool_id AND n.prefix = d.prefix AND n.slot = d.slot
    ORDER BY n.released_at IS NOT NULL, n.id DESC LIMIT 1) newest ON d.slot IS NOT NULL
WHERE d.id IN (
    SELECT id FROM delegations
    WHERE pool_id = :pool_id AND slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL
      AND netbox_id = ANY(:ids)
    UNION
    SELECT k.id FROM netbox_removals g JOIN delegations k USING (tenant_id, allocation_key)
    WHERE g.pool_id = :pool_id AND g.prefix IS NOT NULL AND g.netbox_id = ANY(:ids)
    UNION
    SELECT n.id FROM netbox_records g JOIN pools h ON h.id = g.pool_id
    JOIN LATERAL (
        SELECT id FROM delegations n
        WHERE n.pool_id = g.pool_id AND n.slot = g.slot
          AND n.prefix = lastmile_nth_prefix(h.prefix, h.delegated_length, g.slot)
        ORDER BY n.released_at IS NOT NULL, n.id DESC LIMIT 1) n ON true
    WHERE g.pool_id = :pool_id AND g.netbox_id = ANY(:ids)
    UNION
    SELECT k.id FROM unnest(CAST(:keys AS text[]), CAST(:tenants AS text[])) carried (key, tenant)
    JOIN delegations k ON k.tenant_id = carried.tenant AND k.allocation_key = carried.key)
