-- The reasons that prevent the removal of a pool: delegations, quarantines and the last one's end, blocks in NetBox.
--
-- An excluded slot is never free, which hides its quarantine: the last released delegation gives the end.
--
-- Plan: all slots and delegations of one pool (primary key of slots, delegations_slot). An operator waits for it.
WITH quarantines AS (
    SELECT free_at AS until FROM slots
    WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at > now() AND free_at < 'infinity'
    UNION ALL
    SELECT max(d.released_at + CASE WHEN d.disconnect_confirmed IS FALSE THEN CAST(:unconfirmed AS interval)
                                    ELSE CAST(:confirmed AS interval) END)
    FROM delegations d
    JOIN slots s ON s.pool_id = d.pool_id AND s.slot = d.slot AND s.delegation_id IS NULL AND s.free_at = 'infinity'
    WHERE d.pool_id = :pool_id GROUP BY d.slot
    UNION ALL
    SELECT greatest(due_at, now()) FROM netbox_removals WHERE pool_id = :pool_id
)
SELECT (SELECT count(*) FROM delegations WHERE pool_id = :pool_id AND released_at IS NULL) AS held,
       (SELECT count(*) FROM delegations WHERE pool_id = :pool_id AND released_at IS NULL AND state = 'failed')
           AS failed,
       (SELECT count(*) FROM quarantines WHERE until >= now()) AS quarantined,
       (SELECT max(until) FROM quarantines WHERE until >= now()) AS quarantined_until,
       (SELECT count(*) FROM netbox_blocks WHERE pool_id = :pool_id) AS blocks
