"""The invariants of sessions: no session uses a prefix after the end of the session was confirmed."""

from ipam.quarantine import CONCERNS_UNTIL, RESTING_UNCONFIRMED, REVOCATION_BEGAN
from lastmile.audit.invariant import USER, Invariant, tenant_condition
from lastmile.radius.sessions import MAY_BE_OPEN, SESSION_RECORDED, unaccounted_condition

__all__ = ["SESSION_INVARIANTS", "SESSION_NOTICES"]

# A RADIUS server may have read the account before the block, and record its Access-Accept after the block. This is the
# longest time for one request, with a margin (FreeRADIUS's `max_request_time` is 30 seconds).
_LONGEST_LOGIN = "interval '5 minutes'"

_OTHER_HOLDER = """
    SELECT min(other.subscriber_ref || ' of tenant ' || other.tenant_id) FROM delegations other
    WHERE other.pool_id = d.pool_id AND other.prefix && d.prefix AND other.id > d.id AND other.released_at IS NULL
      AND (other.tenant_id, other.subscriber_ref) <> (d.tenant_id, d.subscriber_ref)"""

# The prefix of `d`, whose slot is `place`, can be kept from other subscribers: it is in the quarantine of this release,
# is excluded, or belongs to the same subscriber again.
_CAN_BE_QUARANTINED = """
    EXISTS (SELECT FROM place WHERE delegation_id IS NULL
            AND (free_at = 'infinity' OR last_holder = lastmile_holder(d.tenant_id, d.subscriber_ref, d.purpose)))
    OR EXISTS (SELECT FROM netbox_removals r WHERE r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key
               AND r.pool_id = d.pool_id AND r.prefix IS NOT NULL)
    OR EXISTS (SELECT FROM delegations again WHERE again.pool_id = d.pool_id AND again.prefix = d.prefix
               AND again.tenant_id = d.tenant_id AND again.subscriber_ref = d.subscriber_ref
               AND again.released_at IS NULL)"""

# Scalar subqueries, since the audit disables nested loops: a join would read all of accounting.
_OPEN_SINCE = f"""(
    SELECT count(*) FROM radacct
    WHERE username = d.username AND {MAY_BE_OPEN} AND {SESSION_RECORDED} > d.began AND {SESSION_RECORDED} <= d.until)"""
_OPEN_SESSIONS = f"""
    SELECT string_agg('session ' || acctsessionid || ' on NAS ' || host(nasipaddress), ', ' ORDER BY radacctid)
    FROM radacct WHERE username = {USER} AND {MAY_BE_OPEN}
      AND {SESSION_RECORDED} <= coalesce({CONCERNS_UNTIL}, 'infinity')"""

SESSION_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "confirmed_too_early",
        1,
        "no login and no session appears after the end of the subscriber's sessions was confirmed",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               d.subscriber_ref || ' has released it, and the end of its sessions was confirmed, but a login or a '
               || 'session has appeared since' || coalesce(': ' || ({_OTHER_HOLDER}) || ' holds the prefix now', '')
               AS words
        FROM (
            SELECT d.*, {USER} AS username, {REVOCATION_BEGAN} AS began,
                   coalesce({CONCERNS_UNTIL}, 'infinity') AS until
            FROM delegations d
            WHERE d.disconnect_confirmed AND d.released_at > now() - CAST(:unconfirmed AS interval)
              AND d.prefix IS NOT NULL AND {tenant_condition("d.tenant_id")}
            OFFSET 0
        ) d
        WHERE {_OPEN_SINCE} > 0 OR {unaccounted_condition("d.username", f"d.began - {_LONGEST_LOGIN}", "d.until")}
        """,
        "`--repair` withdraws the confirmation: the quarantine is extended, and Lastmile asks the NAS again. If "
        "another subscriber has, or can already get, the prefix, end the session on the NAS",
        repair=f"""
        WITH place AS ( -- waits for an allocation that is claiming the slot: its delegation is not visible before
            SELECT s.* FROM slots s JOIN delegations d ON s.pool_id = d.pool_id AND s.slot = d.slot
            WHERE d.id = CAST(CAST(:key AS text) AS bigint) FOR UPDATE OF s
        ), withdrawn AS ( -- not if the prefix has a new holder: the finding must stay until the session is ended
            UPDATE delegations d SET disconnect_confirmed = false
            WHERE id = CAST(CAST(:key AS text) AS bigint) AND disconnect_confirmed
              AND ({_OTHER_HOLDER}) IS NULL AND ({_CAN_BE_QUARANTINED})
            RETURNING *
        ), later AS ( -- back into quarantine, if the quarantine has ended and no subscriber has the prefix yet
            UPDATE slots s SET free_at = d.released_at + CAST(:quarantine AS interval) FROM withdrawn d
            WHERE s.pool_id = d.pool_id AND s.slot = d.slot AND s.delegation_id IS NULL AND s.free_at < 'infinity'
              AND s.last_holder = lastmile_holder(d.tenant_id, d.subscriber_ref, d.purpose)
        ), told AS (
            UPDATE netbox_records r SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
            FROM withdrawn d WHERE r.pool_id = d.pool_id AND r.slot = d.slot
        ), later_in_netbox AS (
            UPDATE netbox_removals r SET due_at = greatest(r.due_at, d.released_at + CAST(:quarantine AS interval))
            FROM withdrawn d
            WHERE r.tenant_id = d.tenant_id AND r.allocation_key = d.allocation_key AND r.pool_id = d.pool_id
              AND r.prefix IS NOT NULL
        )
        SELECT FROM withdrawn
        """,
    ),
)

SESSION_NOTICES: tuple[Invariant, ...] = (
    Invariant(
        "unconfirmed_session",
        1,
        "the end of every session is confirmed before its prefix is released",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               d.subscriber_ref || ' has released it, but no NAS has confirmed the end of '
               || coalesce(({_OPEN_SESSIONS}), 'a login that accounting has not reported')
               || '; it is in quarantine until '
               || to_char(coalesce(s.free_at, r.due_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC' AS words
        {RESTING_UNCONFIRMED} AND {tenant_condition("d.tenant_id")}
        """,
        "No other subscriber gets a prefix in quarantine, and the hourly audit asks the NAS again: check that the NAS "
        "answers, or end the session there.",
    ),
)
