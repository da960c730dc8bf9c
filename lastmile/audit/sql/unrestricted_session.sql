-- The sessions that may be open an hour after the suspension of their line, and that do not have its limits:
--
-- - a session from before the suspension, of which the step has not told every NAS, or has not reached the NAS;
-- - a session from after the suspension, where RADIUS refuses every login. A RADIUS server may have read the account before
--   the suspension, and accepted the login after it.
--
-- A NAS that has confirmed the CoA-Request or the Disconnect-Request is believed: accounting does not show what a session
-- was told. A later session in a walled garden or at the slow rate has the limits from its login.
--
-- Plan: the lines that are suspended, which are few; then radacct_starts_by_user for each of their user names, behind OFFSET
-- 0, since the audit disables nested loops: a join would read all of accounting.
SELECT x.tenant_id AS tenant, x.subscriber_ref AS subject, s.radacctid::text AS key,
       'is suspended (' || replace(x.mode, '_', ' ') || ') by order ' || x.created_by_order || ', but session '
       || s.acctsessionid || ' on NAS ' || host(s.nasipaddress) || ' is open, and '
       || CASE WHEN s.later THEN 'began after the suspension' ELSE 'no NAS has confirmed that it was told' END AS words
FROM suspensions x
JOIN radcheck a ON a.tenant_id = x.tenant_id AND a.subscriber_ref = x.subscriber_ref
               AND lastmile_is_account(a.attribute, a.value)
LEFT JOIN orders o ON o.tenant_id = x.tenant_id AND o.order_id = x.created_by_order
CROSS JOIN LATERAL (
    SELECT r.radacctid, r.acctsessionid, r.nasipaddress, r.recorded > x.created_at AS later
    FROM (
        SELECT a.username AS name, CAST('infinity' AS timestamptz) AS until
        UNION ALL
        SELECT former, logins_until FROM former_usernames WHERE tenant_id = a.tenant_id AND username = a.username
    ) names
    CROSS JOIN LATERAL (
        SELECT *, lastmile_session_recorded(radacct) AS recorded FROM radacct
        WHERE username = names.name AND lastmile_session_may_be_open(radacct)
        OFFSET 0
    ) r
    WHERE r.recorded <= names.until
    OFFSET 0
) s
WHERE x.ended_at IS NULL AND x.created_at < now() - interval '1 hour' AND {tenant}
  AND CASE WHEN s.later THEN x.mode = 'block'
           ELSE o.result -> 'steps' @> '[{"step": "suspend_radius_account", "outcome": "done"}]' IS NOT TRUE END
  AND NOT EXISTS (SELECT FROM orders other WHERE other.tenant_id = x.tenant_id
                  AND other.subscriber_ref = x.subscriber_ref AND lastmile_order_unfinished(other.status))
