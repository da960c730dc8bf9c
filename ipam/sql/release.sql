-- Put the prefix of a revoked delegation into quarantine. Returns its state, and whether it is released by now.
--
-- In a pool that NetBox chooses from there is no slot; a pending removal withholds the prefix in NetBox instead, and is
-- not due before an attempt that NetBox still works on can have ended (:late).
--
-- Plan: the primary key of delegations, and slots_by_delegation.
WITH just_released AS (
    UPDATE delegations SET released_at = now()
    WHERE id = :id AND state = 'revoked' AND released_at IS NULL AND slot IS NOT DISTINCT FROM :slot
    RETURNING *, lastmile_holder(tenant_id, subscriber_ref, purpose) AS holder,
              CASE WHEN disconnect_confirmed IS FALSE
                   THEN CAST(:unconfirmed AS interval) ELSE CAST(:confirmed AS interval) END AS quarantine
), to_be_removed AS (
    INSERT INTO netbox_removals (tenant_id, allocation_key, pool_id, netbox_id, prefix, due_at)
    SELECT g.tenant_id, g.allocation_key, g.pool_id, g.netbox_id, kept.prefix,
           now() + CASE WHEN kept.prefix IS NULL THEN CAST(:late AS interval)
                        ELSE greatest(g.quarantine, CAST(:late AS interval)) END
    FROM just_released g JOIN pools p ON p.id = g.pool_id
    CROSS JOIN LATERAL (SELECT CASE WHEN p.netbox_release = 'deprecate' THEN g.prefix END AS prefix) kept
    WHERE g.slot IS NULL
), freed AS ( -- a slot that is excluded, or that a foreign prefix in NetBox covers, is withheld
    UPDATE slots s SET delegation_id = NULL, free_at = CASE WHEN barred THEN 'infinity' ELSE now() + g.quarantine END,
                       last_holder = CASE WHEN NOT barred THEN g.holder END
    FROM just_released g JOIN pools p ON p.id = g.pool_id CROSS JOIN LATERAL (SELECT g.slot <@ p.excluded OR EXISTS (
        SELECT FROM netbox_foreign_prefixes n
        WHERE n.pool_id = g.pool_id AND g.slot >= n.first_slot AND g.slot < n.end_slot) AS barred) t
    WHERE s.delegation_id = g.id
)
SELECT d.state, d.released_at IS NOT NULL OR EXISTS (SELECT FROM just_released) AS released
FROM delegations d WHERE d.id = :id
