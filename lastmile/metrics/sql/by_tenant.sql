-- For each tenant with delegations: the share in use, and the share of those meant to be in NetBox that NetBox shows.
--
-- NetBox shows a prefix by itself, or in its block where the pool records blocks; not, while NetBox is behind. A prefix
-- of a pool that is in the database alone is not meant to be in NetBox, and does not count.
--
-- Plan: a scan of delegation_counts, which folding keeps small; the records that are due by netbox_records_due.
WITH counted AS (
    SELECT c.tenant_id, sum(c.number) AS held,
           coalesce(sum(c.number) FILTER (WHERE c.state = 'active'), 0) AS active,
           coalesce(sum(c.number) FILTER (WHERE p.mode <> 'database'), 0) AS meant,
           coalesce(sum(c.number) FILTER (
               WHERE p.mode = 'delegated' OR p.mode <> 'database' AND c.in_netbox), 0) AS reported
    FROM delegation_counts c JOIN pools p ON p.id = c.pool_id
    WHERE c.held GROUP BY c.tenant_id HAVING sum(c.number) > 0
), behind AS (
    SELECT d.tenant_id, count(*) AS unreported
    FROM netbox_records r JOIN pools p ON p.id = r.pool_id AND p.netbox_record = 'prefix'
    JOIN delegations d ON d.pool_id = r.pool_id AND d.slot = r.slot AND d.released_at IS NULL
    WHERE r.due_at IS NOT NULL AND r.since IS NOT NULL
      AND (r.netbox_id IS NULL OR r.key IS DISTINCT FROM d.allocation_key)
    GROUP BY d.tenant_id
)
SELECT tenant_id AS tenant, 100.0 * active / held AS ipv6_active_percent,
       100.0 * greatest(0, reported - coalesce(unreported, 0)) / nullif(meant, 0) AS ipv6_netbox_integration_percent,
       nullif(meant, 0) AS lastmile_netbox_delegations
FROM counted LEFT JOIN behind USING (tenant_id)
