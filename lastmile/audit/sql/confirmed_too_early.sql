-- Released delegations with a login or a session that was recorded after the end of their sessions was confirmed; of
-- tenant :tenant, or of all.
--
-- :unconfirmed is the longer quarantine: delegations that were released before it are left out. A RADIUS server may have
-- read the account before the block, and record its Access-Accept after the block. 5 minutes are the longest time for
-- one request, with a margin (FreeRADIUS's `max_request_time` is 30 seconds). After a switch to another prefix, such a
-- session counts only where accounting reports the replaced prefix: most logins of these 5 minutes have the new one.
--
-- Plan: delegations_ended; then for each delegation, and each user name of its line, radacct_starts_by_user and radpostauth_accepts_by_user. Scalar
-- subqueries behind OFFSET 0, since the audit disables nested loops: a join would read all of accounting.
SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
       d.subscriber_ref || ' has released it, and the end of its sessions was confirmed, but a login or a '
       || 'session has appeared since' || coalesce(': ' || (
           SELECT min(other.subscriber_ref || ' of tenant ' || other.tenant_id) FROM delegations other
           WHERE other.pool_id = d.pool_id AND other.prefix && d.prefix AND other.id > d.id
             AND other.released_at IS NULL
             AND (other.tenant_id, other.subscriber_ref) <> (d.tenant_id, d.subscriber_ref)
       ) || ' holds the prefix now', '') AS words
FROM (
    SELECT *, coalesce(concerns_until, 'infinity') AS until FROM delegation_revocations r
    WHERE r.disconnect_confirmed AND r.released_at > now() - CAST(:unconfirmed AS interval)
      AND r.prefix IS NOT NULL AND (CAST(:tenant AS text) IS NULL OR r.tenant_id = :tenant)
    OFFSET 0
) d
WHERE EXISTS (
    SELECT FROM (
        SELECT d.username AS name, d.until
        UNION ALL
        SELECT former, least(logins_until, d.until) FROM former_usernames
        WHERE tenant_id = d.tenant_id AND username = d.username
    ) names
    WHERE (
        SELECT count(*) FROM radacct s
        WHERE s.username = names.name AND lastmile_session_may_be_open(s)
          AND lastmile_session_recorded(s) > d.revocation_began AND lastmile_session_recorded(s) <= names.until
          AND lastmile_session_may_use(s, d.id)
    ) > 0 OR lastmile_has_unaccounted_login(
        names.name, d.revocation_began - interval '5 minutes', least(d.replaced_at, names.until))
)
