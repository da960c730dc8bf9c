-- Every pool that the connection may see, with its use. A pool that NetBox chooses from has no slots: its delegations
-- and pending removals are counted, and foreign prefixes in NetBox are not known.
--
-- Plan: for each pool a range of the primary key of slots, of delegations_prefix, and a scan of netbox_removals. It
-- reads every slot: the metrics ask delegation_counts instead.
SELECT p.tenant_id AS tenant, p.name, p.purpose, p.prefix::text, p.delegated_length, p.vrf, p.region, p.country,
       p.mode, p.netbox_prefix_id AS prefix_id, p.netbox_vrf_id AS vrf_id,
       p.netbox_release AS on_release, p.netbox_record AS record, p.netbox_block_length AS block_length,
       p.netbox_full_since, p.closed_at, p.excluded::text, s.taken_excluded,
       s.taken + there.taken AS taken, s.quarantined + there.quarantined AS quarantined
FROM pools p CROSS JOIN LATERAL (
    SELECT count(delegation_id) AS taken, count(delegation_id) FILTER (WHERE slot <@ p.excluded) AS taken_excluded,
           count(*) FILTER (WHERE delegation_id IS NULL AND free_at > now() AND NOT slot <@ p.excluded) AS quarantined
    FROM slots WHERE pool_id = p.id
) s CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM delegations
            WHERE pool_id = p.id AND slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL) AS taken,
           (SELECT count(prefix) FROM netbox_removals WHERE pool_id = p.id) AS quarantined
) there
ORDER BY p.tenant_id NULLS FIRST, p.name
