-- The lines whose suspension does not agree with their billing, their addresses or their RADIUS group; of tenant :tenant, or of
-- all.
--
-- A billing service that a deprovision order has suspended is no matter of a suspension. The invariant `left_suspended`
-- has it.
--
-- Plan: four scans for the lines that are suspended anywhere, which are few; the rest by the keys of each line.
WITH anywhere AS (
    SELECT tenant_id, subscriber_ref FROM suspensions WHERE ended_at IS NULL
    UNION
    SELECT tenant_id, subscriber_ref FROM delegations WHERE state = 'suspended'
    UNION
    SELECT c.tenant_id, c.subscriber_ref FROM radusergroup g
    JOIN radcheck c ON c.username = g.username AND lastmile_is_account(c.attribute, c.value)
    WHERE split_part(g.groupname, '@', 1) ~ ':(block|walled_garden|slow)$'
    UNION
    SELECT s.tenant_id, s.ref
    FROM billing_services b JOIN subscribers s ON s.id = b.subscriber_id
    JOIN orders o ON o.tenant_id = b.tenant_id AND o.order_id = b.suspended_by_order AND o.effect = 'changes'
    WHERE b.status = 'suspended'
), line AS (
    SELECT a.tenant_id, a.subscriber_ref, x.mode, x.created_by_order, coalesce(nullif(
               substring(split_part(g.groupname, '@', 1) FROM ':(block|walled_garden|slow)$'), ''), 'in service') AS radius,
           g.groupname IS NOT NULL AS has_account, b.status AS billing, o.effect AS suspended_by, held.states
    FROM anywhere a
    LEFT JOIN suspensions x
           ON x.tenant_id = a.tenant_id AND x.subscriber_ref = a.subscriber_ref AND x.ended_at IS NULL
    LEFT JOIN subscribers s ON s.tenant_id = a.tenant_id AND s.ref = a.subscriber_ref AND s.archived_at IS NULL
    LEFT JOIN billing_services b ON b.subscriber_id = s.id AND b.status <> 'ended'
    LEFT JOIN orders o ON o.tenant_id = b.tenant_id AND o.order_id = b.suspended_by_order
    LEFT JOIN radcheck c ON c.tenant_id = a.tenant_id AND c.subscriber_ref = a.subscriber_ref
                        AND lastmile_is_account(c.attribute, c.value)
    LEFT JOIN radusergroup g ON g.username = c.username
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(DISTINCT d.state), '{}') AS states FROM delegations d
        WHERE d.tenant_id = a.tenant_id AND d.subscriber_ref = a.subscriber_ref AND d.released_at IS NULL
    ) held
), compared AS (
    SELECT line.*, nullif(concat_ws(', ',
               CASE WHEN mode IS NOT NULL AND billing = 'active' THEN 'is charged'
                    WHEN mode IS NULL AND billing = 'suspended' AND suspended_by = 'changes' THEN 'is not charged' END,
               CASE WHEN mode IS NOT NULL AND 'active' = ANY (states) THEN 'has an active address'
                    WHEN mode IS NULL AND 'suspended' = ANY (states) THEN 'has a suspended address' END,
               CASE WHEN has_account AND radius <> coalesce(mode, 'in service')
                    THEN 'logs in ' || CASE radius WHEN 'in service' THEN 'as a line in service'
                                                   ELSE 'as suspended (' || replace(radius, '_', ' ') || ')' END END), '')
           AS wrong
    FROM line
)
SELECT tenant_id AS tenant, subscriber_ref AS subject, subscriber_ref AS key,
       coalesce('is suspended (' || replace(mode, '_', ' ') || ') by order ' || created_by_order, 'is in service')
       || ', but ' || wrong AS words
FROM compared line
WHERE wrong IS NOT NULL AND (CAST(:tenant AS text) IS NULL OR tenant_id = :tenant)
  AND NOT EXISTS (SELECT FROM orders other WHERE other.tenant_id = line.tenant_id
                  AND other.subscriber_ref = line.subscriber_ref AND lastmile_order_unfinished(other.status))
