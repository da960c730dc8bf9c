-- For each prefix that an import would carry over: whether its subscriber is in service, what that subscriber holds,
-- which subscriber holds the prefix, and whether an order or a pending removal is in the way.
--
-- Plan: one look-up each in subscribers_current, delegations_live, delegations_by_prefix, delegations_key,
-- radcheck_line and orders_by_subscriber for each prefix.
SELECT a.n, s.id IS NOT NULL AS known, held.prefix::text AS held, holder.subscriber_ref AS holder,
       holder.netbox_id AS netbox_id, holder.tenant_id AS holder_tenant,
       EXISTS (SELECT FROM delegations WHERE tenant_id = a.tenant AND allocation_key = a.key) AS managed,
       EXISTS (SELECT FROM radcheck r WHERE r.tenant_id = a.tenant AND r.tenant_id <> '' AND r.subscriber_ref = a.ref
                                        AND lastmile_is_account(r.attribute, r.value)) AS account,
       EXISTS (SELECT FROM orders WHERE tenant_id = a.tenant AND subscriber_ref = a.ref
                                    AND lastmile_order_unfinished(status)) AS busy,
       EXISTS (SELECT FROM netbox_removals r WHERE r.pool_id = :pool_id AND r.prefix && a.prefix) AS in_quarantine
FROM unnest(CAST(:tenants AS text[]), CAST(:refs AS text[]), CAST(:prefixes AS cidr[]), CAST(:keys AS text[]))
     WITH ORDINALITY a (tenant, ref, prefix, key, n)
LEFT JOIN subscribers s ON s.tenant_id = a.tenant AND s.ref = a.ref AND s.archived_at IS NULL
LEFT JOIN LATERAL (
    SELECT coalesce(prefix::text, 'one to come') AS prefix FROM delegations d
    WHERE d.tenant_id = a.tenant AND d.subscriber_ref = a.ref AND d.purpose = :purpose AND d.released_at IS NULL
    LIMIT 1) held ON true
LEFT JOIN LATERAL (
    SELECT * FROM delegations d
    WHERE d.pool_id = :pool_id AND d.prefix && a.prefix AND d.released_at IS NULL LIMIT 1) holder ON true
ORDER BY a.n
