"""The invariants of lines: RADIUS, the devices, the records and billing agree on what a line has."""

from lastmile.audit.invariant import Invariant, tenant_condition
from lastmile.audit.last_orders import LAST_LINE_ORDER, NO_OPEN_ORDER

__all__ = ["LINE_INVARIANTS"]

# The plan of each group, as `lastmile.radius.groups.Group` parses the name. NULL: Lastmile did not make the group. A
# regular expression for each line would take seconds: there are few groups.
_GROUP_PLANS = """
    SELECT groupname, substring(
        groupname FROM '^([A-Za-z0-9_-]+)-[0-9]+-[0-9]+([:](block|walled_garden|slow))?@[a-z0-9-]+[.]lastmile$'
    ) AS plan
    FROM radusergroup GROUP BY groupname
"""

LINE_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "other_device",
        6,
        "the devices in service are those of the network profile",
        f"""
        SELECT d.tenant_id AS tenant, d.subscriber_ref AS subject, d.subscriber_ref || ' ' || d.kind AS key,
               upper(d.kind) || ' ' || d.identity || ' is in service, but the network profile has '
               || coalesce(profile.identity, 'no ' || upper(d.kind)) AS words
        FROM devices d
        JOIN subscribers s ON s.tenant_id = d.tenant_id AND s.ref = d.subscriber_ref AND s.archived_at IS NULL
        JOIN network_profiles n ON n.subscriber_id = s.id
        CROSS JOIN LATERAL (
            SELECT CASE d.kind WHEN 'onu' THEN n.onu_serial
                   ELSE lastmile_cpe_identity(n.cpe_mac, n.cpe_oui, n.cpe_product_class, n.cpe_serial) END AS identity
        ) profile
        WHERE d.in_service AND d.identity IS DISTINCT FROM profile.identity AND {tenant_condition("d.tenant_id")}
          AND {NO_OPEN_ORDER.format("d")}
        """,
        "order a replace_device with the device that the line has",
    ),
    Invariant(
        "other_plan",
        5,
        "the RADIUS group of a line has the plan that billing charges",
        f"""
        WITH group_plans AS MATERIALIZED ({_GROUP_PLANS})
        SELECT s.tenant_id AS tenant, s.ref AS subject, b.id::text AS key,
               'is charged for plan ' || b.plan || ', but logs in with ' || coalesce((
                   SELECT 'plan ' || string_agg(p.plan, ', ' ORDER BY g.id)
                   FROM radusergroup g JOIN group_plans p USING (groupname)
                   WHERE g.username = c.username), 'no plan') AS words
        FROM billing_services b JOIN subscribers s ON s.id = b.subscriber_id AND s.archived_at IS NULL
        JOIN radcheck c ON c.tenant_id = s.tenant_id AND c.subscriber_ref = s.ref
                       AND lastmile_is_account(c.attribute, c.value)
        WHERE b.status <> 'ended' AND {tenant_condition("s.tenant_id")}
          AND NOT EXISTS (SELECT FROM radusergroup g JOIN group_plans p USING (groupname)
                          WHERE g.username = c.username AND p.plan = b.plan)
          AND NOT EXISTS (SELECT FROM orders other WHERE other.tenant_id = s.tenant_id
                          AND other.subscriber_ref = s.ref AND lastmile_order_unfinished(other.status))
        """,
        "order a change_plan with the plan that the line is to have; a line that logs in with no plan: deprovision the "
        "subscriber and provision it again",
    ),
    Invariant(
        "blocked_in_service",
        6,
        "the account of a provisioned line may log in",
        f"""
        WITH last_order AS ({LAST_LINE_ORDER})
        SELECT o.tenant_id AS tenant, o.subscriber_ref AS subject, o.order_id AS key,
               'provisioned by order ' || o.order_id || ', but RADIUS refuses its logins: order '
               || r.created_by_order || ' has blocked the account' AS words
        FROM last_order o
        -- An operator set a block that has no order.
        JOIN radcheck r ON r.tenant_id = o.tenant_id AND r.subscriber_ref = o.subscriber_ref
                       AND r.attribute = 'Auth-Type' AND r.value = 'Reject' AND r.created_by_order IS NOT NULL
        WHERE o.effect = 'creates' AND lastmile_order_completed(o.status)
        """,
        "provision the subscriber with a new order of the same content, or deprovision the subscriber, as intended",
    ),
    Invariant(
        "billed_without_line",
        6,
        "every charged service has a line",
        f"""
        SELECT s.tenant_id AS tenant, s.ref AS subject, b.id::text AS key,
               'is charged for plan ' || b.plan || ', but '
               || CASE WHEN s.archived_at IS NOT NULL THEN 'was deprovisioned'
                       WHEN account.username IS NULL THEN 'has no RADIUS account'
                       ELSE 'RADIUS refuses its logins' END AS words
        FROM billing_services b JOIN subscribers s ON s.id = b.subscriber_id
        LEFT JOIN radcheck account ON account.tenant_id = s.tenant_id AND account.subscriber_ref = s.ref
                                  AND lastmile_is_account(account.attribute, account.value)
        LEFT JOIN radcheck block ON block.username = account.username AND block.attribute = 'Auth-Type'
                                AND block.value = 'Reject' AND block.created_by_order IS NOT NULL
        WHERE b.status = 'active' AND {tenant_condition("s.tenant_id")}
          AND (s.archived_at IS NOT NULL OR account.username IS NULL OR block.username IS NOT NULL)
          AND NOT EXISTS (SELECT FROM orders other WHERE other.tenant_id = s.tenant_id
                          AND other.subscriber_ref = s.ref AND lastmile_order_unfinished(other.status))
        """,
        "deprovision the subscriber, or, to keep a line in service, provision it with a new order of the same content",
    ),
)
