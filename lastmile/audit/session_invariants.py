"""The invariants of sessions: no session uses a prefix after the end of the session was confirmed."""

from lastmile.audit.invariant import Invariant, tenant_condition
from lastmile.db.statements import read_sql

__all__ = ["SESSION_INVARIANTS", "SESSION_NOTICES"]

SESSION_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "confirmed_too_early",
        1,
        "no login and no session appears after the end of the subscriber's sessions was confirmed",
        read_sql("lastmile.audit", "confirmed_too_early"),
        "`--repair` withdraws the confirmation: the quarantine is extended, and Lastmile asks the NAS again. If "
        "another subscriber has, or can already get, the prefix, end the session on the NAS",
        repair=read_sql("lastmile.audit", "repair_confirmed_too_early"),
    ),
)

SESSION_NOTICES: tuple[Invariant, ...] = (
    Invariant(
        "unconfirmed_session",
        1,
        "the end of every session is confirmed before its prefix is released",
        f"""
        SELECT d.tenant_id AS tenant, d.prefix::text AS subject, d.id::text AS key,
               d.subscriber_ref || ' has released it, but no NAS has confirmed the end of ' || coalesce((
                   SELECT string_agg('session ' || acctsessionid || ' on NAS ' || host(nasipaddress), ', '
                                     ORDER BY radacctid)
                   FROM radacct s WHERE s.username IN (
                       SELECT d.username UNION ALL
                       SELECT former FROM former_usernames WHERE tenant_id = d.tenant_id AND username = d.username
                   ) AND lastmile_session_may_be_open(s)
                     AND lastmile_session_recorded(s) <= coalesce(d.concerns_until, 'infinity')
                     AND lastmile_session_may_use(s, d.id)
               ), 'a login that accounting has not reported')
               || '; it is in quarantine until '
               || to_char(d.quarantined_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC' AS words
        FROM lastmile_unconfirmed_quarantine(CAST(:unconfirmed AS interval)) d
        WHERE {tenant_condition("d.tenant_id")}
        """,
        "No other subscriber gets a prefix in quarantine, and the hourly audit asks the NAS again: check that the NAS "
        "answers, or end the session there.",
    ),
    Invariant(
        "another_port",
        6,
        "a login comes from the circuit id and remote id of the line, where its option82_policy is `log`",
        read_sql("lastmile.audit", "another_port", tenant=tenant_condition("s.tenant_id")),
        "RADIUS has accepted the login: check the cabling and the DHCP relay, or correct the line. "
        "`option82_policy: enforce` refuses such logins, `ignore` ends the report.",
    ),
)
