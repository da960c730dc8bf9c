-- Withdraw the confirmation that the sessions of the delegation :key have ended, which extends the quarantine of its
-- prefix. Returns a row if the confirmation was withdrawn.
--
-- It is not withdrawn if the prefix has a new holder, or cannot be in quarantine: the finding must stay until the
-- session is ended.
--
-- Plan: primary keys. `place` waits for an allocation that is claiming the slot: its delegation is not visible before.
WITH place AS (
    SELECT s.* FROM slots s JOIN delegations d ON s.pool_id = d.pool_id AND s.slot = d.slot
    WHERE d.id = CAST(CAST(:key AS text) AS bigint) FOR UPDATE OF s
), withdrawn AS ( -- if the prefix is in the quarantine of this release, excluded, or the same subscriber's again
    UPDATE delegations d SET disconnect_confirmed = false
    WHERE id = CAST(CAST(:key AS text) AS bigint) AND disconnect_confirmed
      AND NOT EXISTS (
          SELECT FROM delegations other
          WHERE other.pool_id = d.pool_id AND other.prefix && d.prefix AND other.id > d.id
            AND other.released_at IS NULL
            AND (other.tenant_id, other.subscriber_ref) <> (d.tenant_id, d.subscriber_ref))
      AND (EXISTS (SELECT FROM place WHERE delegation_id IS NULL AND (
               free_at = 'infinity' OR last_holder = lastmile_holder(d.tenant_id, d.subscriber_ref, d.purpose)))
           OR EXISTS (SELECT FROM netbox_removals r
                      WHERE r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key
                        AND r.pool_id = d.pool_id AND r.prefix IS NOT NULL)
           OR EXISTS (SELECT FROM delegations again
                      WHERE again.pool_id = d.pool_id AND again.prefix = d.prefix AND again.tenant_id = d.tenant_id
                        AND again.subscriber_ref = d.subscriber_ref AND again.released_at IS NULL))
    RETURNING *
), later AS ( -- back into quarantine, if the quarantine has ended and no subscriber has the prefix yet
    UPDATE slots s SET free_at = d.released_at + CAST(:quarantine AS interval) FROM withdrawn d
    WHERE s.pool_id = d.pool_id AND s.slot = d.slot AND s.delegation_id IS NULL AND s.free_at < 'infinity'
      AND s.last_holder = lastmile_holder(d.tenant_id, d.subscriber_ref, d.purpose)
), due AS (
    UPDATE netbox_records r SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
    FROM withdrawn d WHERE r.pool_id = d.pool_id AND r.slot = d.slot
), later_in_netbox AS (
    UPDATE netbox_removals r SET due_at = greatest(r.due_at, d.released_at + CAST(:quarantine AS interval))
    FROM withdrawn d
    WHERE r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key AND r.pool_id = d.pool_id
      AND r.prefix IS NOT NULL
)
SELECT FROM withdrawn
