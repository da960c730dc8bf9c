-- The last login of each line with option82_policy `log`, where it did not come from the line's circuit id and remote id.
--
-- Class has what the BNG sent (`lastmile.radius.logins.port_items`), with backslashes before quotation marks. A login
-- without option 82 has an empty Class, or only the separator: that is not reported.
--
-- Plan: network_profiles once, and one look-up in radpostauth_accepts_by_user for each line with such a policy.
SELECT s.tenant_id AS tenant, s.ref AS subject, s.ref AS key,
       'its login of ' || to_char(l.authdate AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC came from '
       || regexp_replace(encode(decode(substr(l.class, 3), 'hex'), 'escape'), '[^ -~]', '?', 'g')
       || ', but the line is at ' || line.port AS words
FROM network_profiles n JOIN subscribers s ON s.id = n.subscriber_id AND s.archived_at IS NULL
JOIN radcheck a ON a.tenant_id = s.tenant_id AND a.subscriber_ref = s.ref AND lastmile_is_account(a.attribute, a.value)
CROSS JOIN LATERAL (SELECT concat_ws('|', n.circuit_id, n.remote_id) AS port) line
CROSS JOIN LATERAL (
    SELECT class, authdate FROM radpostauth
    WHERE username = a.username AND reply = 'Access-Accept' ORDER BY authdate DESC LIMIT 1
) l
WHERE n.option82_policy = 'log' AND line.port <> '' AND l.class ~ '^0x([0-9a-f]{2})+$' AND l.class <> '0x7c'
  AND l.class <> '0x' || encode(convert_to(replace(replace(line.port, '\', '\\'), '"', '\"'), 'UTF8'), 'hex')
  AND {tenant}
