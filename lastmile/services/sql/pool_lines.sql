-- The lines that hold a prefix of a pool, each with its standing, and with the orders by which the renumbering of the
-- pool has tried to renumber it: `renumber-pool-DELEGATION-ATTEMPT`.
--
-- Variants:
--   ending  what is selected from `lines`.
--
-- Plan: for the next lines, the primary key of delegations from :after on, until enough lines are found; for a count,
-- every held delegation of the pool, by delegations_slot or delegations_prefix. For each delegation the orders of its
-- subscriber, by orders_by_subscriber: a handful of rows.
WITH lines AS (
    SELECT d.id, d.tenant_id, d.subscriber_ref, d.prefix::text, d.replaced_until, tried.attempts, tried.open_digest,
           tried.failure,
           CASE WHEN d.replaced_at IS NOT NULL THEN 'in_overlap'
                WHEN d.state NOT IN ('active', 'suspended') THEN 'not_in_service'
                WHEN tried.busy THEN 'busy'
                WHEN tried.failed THEN 'failed'
                ELSE 'to_renumber' END AS standing
    FROM delegations d CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE ours AND NOT unfinished) AS attempts,
               max(digest) FILTER (WHERE ours AND unfinished) AS open_digest,
               coalesce(bool_or(unfinished AND NOT ours), false) AS busy,
               coalesce(bool_or(ours AND finished_at >= CAST(:since AS timestamptz)), false) AS failed,
               (array_agg(result ->> 'reason' ORDER BY created_at DESC) FILTER (WHERE ours AND NOT unfinished))[1]
                   AS failure
        FROM (
            SELECT digest, result, created_at, finished_at, lastmile_order_unfinished(status) AS unfinished,
                   starts_with(order_id, 'renumber-pool-' || d.id || '-') AS ours
            FROM orders o WHERE o.tenant_id = d.tenant_id AND o.subscriber_ref = d.subscriber_ref
        ) o
    ) tried
    WHERE d.pool_id = :pool_id AND d.released_at IS NULL AND d.id > :after
)
{ending}
