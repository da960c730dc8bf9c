-- Released prefixes and the end of their sessions, as orders, events and RADIUS show it.

CREATE VIEW delegation_revocations WITH (security_invoker = true) AS
    SELECT d.*, account.username, began.at AS revocation_began,
           coalesce(
               d.replaced_at + interval '5 minutes',
               (SELECT min(o.created_at) FROM orders o
                WHERE o.tenant_id = d.tenant_id AND o.subscriber_ref = d.subscriber_ref
                  AND o.effect = 'creates' AND o.created_at > d.state_since),
               CASE WHEN EXISTS (SELECT FROM radcheck c
                                 WHERE c.username = account.username AND lastmile_is_account(c.attribute, c.value))
                     AND NOT EXISTS (SELECT FROM radcheck c
                                     WHERE c.username = account.username AND c.attribute = 'Auth-Type' AND c.value = 'Reject')
                    THEN began.at END) AS concerns_until
    FROM delegations d CROSS JOIN LATERAL (
        SELECT coalesce(d.login_name, lastmile_radius_username(d.subscriber_ref, d.tenant_id)) AS username
    ) account CROSS JOIN LATERAL (
        SELECT coalesce((SELECT max(e.at) FROM delegation_events e
                         WHERE e.delegation_id = d.id AND e.to_state = 'revoking'), d.state_since) AS at
    ) began;
COMMENT ON VIEW delegation_revocations IS
    'Every delegation, with the time in which logins of its user can have got its prefix.';
COMMENT ON COLUMN delegation_revocations.username IS 'The user name of the subscriber in RADIUS.';
COMMENT ON COLUMN delegation_revocations.revocation_began IS
    'When the delegation was last revoked; before that, when it entered its state.';
COMMENT ON COLUMN delegation_revocations.concerns_until IS
    'The last time at which a login can have got the prefix; NULL: no such time. A RADIUS server records a login after it '
    'has read the account: up to 5 minutes after the prefix was replaced, a login can have got it. After a later order that creates a line of the subscriber, logins belong to another line. An account that stays in service, because its order was undone, does '
    'not get the address after the revocation began.';

CREATE FUNCTION lastmile_session_may_use(session radacct, delegation bigint) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN d.replaced_at IS NULL THEN true
                WHEN d.disconnect_confirmed THEN
                    lastmile_session_recorded(session) > d.replaced_at AND coalesce(reported.address <<= d.prefix, false)
                ELSE coalesce(reported.address <<= d.prefix, true) END
    FROM delegations d, LATERAL (
        SELECT CASE d.purpose WHEN 'ipv6_pd' THEN session.delegatedipv6prefix
                              WHEN 'ipv6_framed' THEN session.framedipv6prefix
                              WHEN 'ipv6_address' THEN session.framedipv6address
                              WHEN 'ipv4' THEN session.framedipaddress END AS address
    ) reported
    WHERE d.id = delegation
$$;
COMMENT ON FUNCTION lastmile_session_may_use IS
    'Whether a session of the delegation''s user, recorded until concerns_until, may use its prefix. A session does not use a '
    'replaced prefix if accounting reports another address. Once the sessions from before the switch are confirmed, a '
    'later one does only if accounting reports the replaced prefix.';

CREATE FUNCTION lastmile_unconfirmed_quarantine(unconfirmed interval)
RETURNS TABLE (
    id bigint, tenant_id text, subscriber_ref text, prefix cidr, username text, concerns_until timestamptz,
    quarantined_until timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT d.id, d.tenant_id, d.subscriber_ref, d.prefix, d.username, d.concerns_until, coalesce(s.free_at, r.due_at)
    FROM delegation_revocations d
    LEFT JOIN slots s ON s.pool_id = d.pool_id AND s.slot = d.slot
    LEFT JOIN netbox_removals r ON r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key
                               AND r.pool_id = d.pool_id
    WHERE d.released_at > now() - unconfirmed AND d.disconnect_confirmed IS FALSE
      AND NOT EXISTS (SELECT FROM orders o
                      WHERE o.tenant_id = d.tenant_id AND o.order_id = d.created_by_order AND o.adopts
                        AND (o.status = 'rolling_back' OR lastmile_order_rolled_back(o.status)))
      AND CASE WHEN d.slot IS NULL THEN r.prefix IS NOT NULL
               ELSE s.delegation_id IS NULL AND s.free_at = d.released_at + unconfirmed END
$$;
COMMENT ON FUNCTION lastmile_unconfirmed_quarantine IS
    'The delegations in the longer quarantine, of this length, since no NAS has confirmed the end of their sessions. '
    'Only in the quarantine of this release: not of a later holder, and not of a foreign prefix. Not of an undone '
    'adoption: the line stays in service elsewhere. Uses delegations_ended.';
