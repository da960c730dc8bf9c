"""The invariants of calls that a device has yet to follow."""

from lastmile.audit.invariant import Invariant, tenant_condition
from lastmile.audit.last_orders import NO_OPEN_ORDER

__all__ = ["DEVICE_INVARIANTS"]

DEVICE_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "contradicted_call",
        6,
        "a call that waits brings its device into the state that the line has it in",
        f"""
        SELECT p.tenant_id AS tenant, p.subscriber_ref AS subject,
               concat_ws(' ', p.subscriber_ref, p.kind, p.identity) AS key,
               'a call waits that puts ' || upper(p.kind) || ' ' || p.identity
               || CASE WHEN p.switches_on THEN ' into' ELSE ' out of' END || ' service, but '
               || CASE WHEN d.identity IS NULL THEN 'the line has no ' || upper(p.kind)
                       WHEN d.identity <> p.identity THEN 'the line has ' || d.identity
                       ELSE 'it should be ' || CASE WHEN d.in_service THEN 'in' ELSE 'out of' END || ' service' END
               AS words
        FROM pending_device_calls p
        LEFT JOIN devices d ON d.tenant_id = p.tenant_id AND d.subscriber_ref = p.subscriber_ref AND d.kind = p.kind
        WHERE p.switches_on <> coalesce(d.in_service AND d.identity = p.identity, false)
          AND {tenant_condition("p.tenant_id")} AND {NO_OPEN_ORDER.format("p")}
        """,
        "end the call: `lastmile drop-device-call SUBSCRIBER DEVICE`",
    ),
    Invariant(
        "stale_device_call",
        6,
        "no device waits for longer than 30 days",
        f"""
        SELECT tenant_id AS tenant, subscriber_ref AS subject, concat_ws(' ', subscriber_ref, kind, identity) AS key,
               upper(kind) || ' ' || identity || ' should be ' || CASE WHEN switches_on THEN 'in' ELSE 'out of' END
               || ' service, and has not followed since ' || to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS words
        FROM pending_device_calls
        WHERE since < now() - interval '30 days' AND {tenant_condition("tenant_id")}
        """,
        "`lastmile devices SUBSCRIBER` says what the device waits for; a device that will never follow: "
        "`lastmile drop-device-call SUBSCRIBER DEVICE`",
    ),
)
