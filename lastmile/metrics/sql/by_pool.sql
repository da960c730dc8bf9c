-- For each pool: how full it is, what is free, and what is in quarantine. A slot that an operator excluded, or that a
-- foreign prefix in NetBox covers, is out of reach for ever, and is not in quarantine.
--
-- Plan: a scan of delegation_counts; prefixes in quarantine are counted by slots_free, since no row changes when a
-- quarantine ends; excluded slots by the primary key of slots.
SELECT pool, tenant, purpose, 100.0 * (held + quarantined + barred) / capacity AS ipv6_pool_utilization_percent,
       capacity - held - quarantined - barred AS ipv6_pool_free_prefixes, quarantined AS ipv6_quarantined_prefixes
FROM (
    SELECT p.name AS pool, coalesce(p.tenant_id, '') AS tenant, p.purpose,
           p.end_slot - p.first_slot - excluded.slots + excluded.held AS capacity,
           coalesce(counted.held, 0) AS held, here.quarantined + coalesce(there.quarantined, 0) AS quarantined, here.barred
    FROM pools p
    LEFT JOIN (SELECT pool_id, sum(number) AS held FROM delegation_counts WHERE held GROUP BY 1) counted
           ON counted.pool_id = p.id
    LEFT JOIN (SELECT pool_id, count(prefix) AS quarantined FROM netbox_removals GROUP BY 1) there
           ON there.pool_id = p.id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE free_at < 'infinity') AS quarantined,
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
