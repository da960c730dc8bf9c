"""The invariants of suspensions: billing, addresses and RADIUS agree on whether a line is suspended."""

from lastmile.audit.invariant import Invariant, tenant_condition
from lastmile.db.statements import read_sql

__all__ = ["SUSPENSION_INVARIANTS"]

SUSPENSION_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "half_suspended",
        6,
        "the suspension of a line agrees with its billing, its addresses and its RADIUS group",
        read_sql("lastmile.audit", "half_suspended"),
        "if the line is suspended, resume it, and suspend it again if intended; otherwise suspend it and resume it",
    ),
    Invariant(
        "overdue_suspension",
        6,
        "no line is suspended for longer than an hour after the end of its suspension",
        f"""
        SELECT tenant_id AS tenant, subscriber_ref AS subject, id::text AS key,
               'was to resume on ' || to_char(resume_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
               || ' UTC, but is still suspended by order ' || created_by_order AS words
        FROM suspensions
        WHERE ended_at IS NULL AND resume_at < now() - interval '1 hour' AND {tenant_condition("tenant_id")}
        """,
        "`lastmile status SUBSCRIBER` shows the last resume order; `lastmile resume SUBSCRIBER` resumes the line now",
    ),
    Invariant(
        "unrestricted_session",
        5,
        "no session of a suspended line is without the limits of the suspension",
        read_sql("lastmile.audit", "unrestricted_session", tenant=tenant_condition("x.tenant_id")),
        "end the session on its NAS; or, once the NAS answers Lastmile, resume the line and suspend it again",
    ),
)
