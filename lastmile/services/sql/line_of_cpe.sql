-- The line that a CPE belongs to, or belonged to until the line ended.
--
-- Plan: network_profiles_cpe, network_profiles_cpe_mac and devices_by_identity find at most one row each. Then one look at the
-- live delegations of the subscriber.
SELECT found.subscriber_ref, found.access, found.in_service,
       coalesce(ipv6.has_ipv6, false) AS has_ipv6, coalesce(ipv6.has_delegated_prefix, false) AS has_delegated_prefix
FROM (
    SELECT s.ref AS subscriber_ref, p.access, coalesce(d.in_service, true) AS in_service,
           CASE WHEN p.cpe_serial = :serial THEN 1 ELSE 2 END AS rank
    FROM network_profiles p
    JOIN subscribers s ON s.id = p.subscriber_id AND s.archived_at IS NULL
    LEFT JOIN devices d ON (d.tenant_id, d.subscriber_ref, d.kind) = (s.tenant_id, s.ref, 'cpe')
    WHERE (p.cpe_oui = :oui AND coalesce(p.cpe_product_class, '') = :product_class AND p.cpe_serial = :serial)
       OR (p.cpe_serial IS NULL AND p.cpe_mac = CAST(:mac AS macaddr))
    UNION ALL
    SELECT d.subscriber_ref, NULL, false, 3
    FROM devices d
    WHERE d.kind = 'cpe' AND NOT d.in_service AND d.identity IN (:identity, CAST(:mac AS text))
    ORDER BY rank LIMIT 1
) found
LEFT JOIN LATERAL (
    SELECT bool_or(family(prefix) = 6) AS has_ipv6, bool_or(purpose = 'ipv6_pd') AS has_delegated_prefix
    FROM delegations
    WHERE subscriber_ref = found.subscriber_ref AND state IN ('allocated', 'active', 'suspended')
) ipv6 ON true
