"""Breaks of the invariants of orders, lines and suspensions."""

from tests.audit.breaks import IN_NETBOX, Break
from tests.support.audited_env import OF_S1

__all__ = ["LINE_BREAKS"]

WAITING = """
INSERT INTO pending_device_calls
    (tenant_id, kind, identity, subscriber_ref, switches_on, device, waits_for, order_id, due_at, since) VALUES
"""

LINE_BREAKS = [
    Break(
        "left_behind",
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'O-9', 'provision', 'creates', 'S-9', 'd', 'r1', 'partly_rolled_back');"
        "INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C-9', 'Grace', 'O-9')",
        "O-9",
        "was rolled back, but left customer C-9",
    ),
    Break(
        "left_suspended",
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'D-1', 'deprovision', 'ends', 'S-1', 'd', 'r1', 'rolled_back');"
        "UPDATE billing_services SET status = 'suspended', suspended_by_order = 'D-1' WHERE created_by_order = 'O-1'",
        "D-1",
        "was rolled back, but left billing of S-1 suspended",
    ),
    Break(
        "left_suspended",
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'D-1', 'deprovision', 'ends', 'S-1', 'd', 'r1', 'rolled_back');"
        "UPDATE devices SET in_service = false, updated_by_order = 'D-1' WHERE subscriber_ref = 'S-1' AND kind = 'onu'",
        "D-1",
        "was rolled back, but left the ONU of S-1 out of service",
    ),
    Break(
        "incomplete",
        "DELETE FROM billing_services WHERE created_by_order = 'O-1';"
        "DELETE FROM network_profiles WHERE created_by_order = 'O-1'",
        "S-1",
        "provisioned by order O-1, but has no network profile, no billing service",
    ),
    Break(
        "taken_away",
        f"""
        UPDATE slots SET delegation_id = NULL WHERE delegation_id = (SELECT id FROM delegations WHERE {OF_S1});
        UPDATE delegations SET state = 'revoked', released_at = now() WHERE {OF_S1};
        DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'
        """,
        "S-1",
        r"order O-1 assigned 2001:db8:.*/56, but the subscriber does not hold it",
    ),
    Break(
        "not_terminated",
        "INSERT INTO radcheck (username, attribute, op, value)"
        " VALUES ('S-3@acme.lastmile', 'Cleartext-Password', ':=', 'p')",
        "S-3",
        "deprovisioned by order D-3, but still has a RADIUS account",
    ),
    Break(
        "not_terminated",
        "INSERT INTO network_profiles (tenant_id, subscriber_id, created_by_order, connection_type, option82_policy)"
        " SELECT tenant_id, id, 'O-3', 'ftth', 'log' FROM subscribers WHERE ref = 'S-3'",
        "S-3",
        "deprovisioned by order D-3, but still has a network profile",
    ),
    Break(
        "not_active",
        f"UPDATE delegations SET state = 'allocated' WHERE {OF_S1};"
        "DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'",
        r"2001:db8:.*/56",
        "allocated to S-1 by order O-1, which ended completed without activating the address",
        repaired=True,
    ),
    Break(
        "unfinished",
        "UPDATE orders SET status = 'rolling_back', created_at = '2026-05-03 14:00Z' WHERE order_id = 'O-1'",
        "O-1",
        "provision of S-1 has been rolling back since 2026-05-03 14:00 UTC",
    ),
    Break(
        "not_allocated",
        IN_NETBOX.format(prefix="NULL", state="failed"),
        "S-1",
        r"waits for a prefix for ipv6_framed \(failed\) since order O-1, which ended completed",
    ),
    Break(
        "not_released",
        "UPDATE delegations SET state = 'revoked' WHERE subscriber_ref = 'S-3' AND released_at IS NOT NULL;"
        "UPDATE delegations SET released_at = NULL WHERE subscriber_ref = 'S-3';"
        "UPDATE slots SET delegation_id = (SELECT id FROM delegations WHERE subscriber_ref = 'S-3'),"
        " last_holder = NULL WHERE last_holder LIKE '%/S-3/%'",
        r"2001:db8:.*/56",
        "revoked from S-3, but not released: no other subscriber can get it",
        also=("not_terminated",),
    ),
    Break(
        "blocked_in_service",
        "INSERT INTO radcheck (username, attribute, op, value, created_by_order)"
        " VALUES ('S-1@acme.lastmile', 'Auth-Type', ':=', 'Reject', 'D-1');"
        "UPDATE billing_services SET status = 'suspended' WHERE created_by_order = 'O-1'",
        "S-1",
        "provisioned by order O-1, but RADIUS refuses its logins: order D-1 has blocked the account",
    ),
    Break(
        "billed_without_line",
        "DELETE FROM radcheck WHERE username = 'S-1@acme.lastmile'",
        "S-1",
        "is charged for plan fiber, but has no RADIUS account",
        also=("incomplete",),
    ),
    Break(
        "billed_without_line",
        "INSERT INTO radcheck (username, attribute, op, value, created_by_order)"
        " VALUES ('S-1@acme.lastmile', 'Auth-Type', ':=', 'Reject', 'D-1')",
        "S-1",
        "is charged for plan fiber, but RADIUS refuses its logins",
        also=("blocked_in_service",),
    ),
    Break(
        "billed_without_line",
        "UPDATE billing_services SET status = 'active', ended_at = NULL WHERE created_by_order = 'O-3'",
        "S-3",
        "is charged for plan fiber, but was deprovisioned",
    ),
    Break(
        "other_device",
        "UPDATE devices SET identity = 'ACME0000FFFF' WHERE subscriber_ref = 'S-1' AND kind = 'onu'",
        "S-1",
        r"ONU ACME0000FFFF is in service, but the network profile has ACME0000000\d",
    ),
    Break(
        "other_device",
        "UPDATE network_profiles SET cpe_mac = NULL, cpe_oui = '00D09E', cpe_product_class = 'HGW-1', cpe_serial = '1'"
        " WHERE cpe_mac = '00:1a:2b:00:00:01'",
        "S-1",
        "CPE 00:1a:2b:00:00:01 is in service, but the network profile has 00D09E-HGW%2D1-1",
    ),
    Break(
        "half_changed",
        "INSERT INTO previous_values (tenant_id, created_by_order, step, subscriber_ref, value)"
        " VALUES ('acme', 'O-1', 'update_customer', 'S-1', '{}')",
        "S-1",
        r"order O-1 \(provision\) ended completed after its step update_customer",
    ),
    Break(
        "other_plan",
        "UPDATE billing_services SET plan = 'basic' WHERE created_by_order = 'O-1'",
        "S-1",
        "is charged for plan basic, but logs in with plan fiber",
    ),
    Break(
        "other_plan",
        "UPDATE radusergroup SET groupname = 'basic-50000-10000@acme.lastmile' WHERE username = 'S-1@acme.lastmile'",
        "S-1",
        "is charged for plan fiber, but logs in with plan basic",
    ),
    Break(
        "other_plan",
        "UPDATE radusergroup SET groupname = 'fiber-of-staff' WHERE username = 'S-1@acme.lastmile'",
        "S-1",
        "is charged for plan fiber, but logs in with no plan",
    ),
    *(
        Break("half_suspended", by, "S-1", words)
        for by, words in (
            (
                "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order)"
                " VALUES ('acme', 'S-1', 'block', 'non-payment', 'X-1')",
                r"is suspended \(block\) by order X-1, but is charged, has an active address, "
                "logs in as a line in service",
            ),
            (
                "UPDATE radusergroup SET groupname = 'fiber-500000-250000:walled_garden@acme.lastmile'"
                " WHERE username = 'S-1@acme.lastmile'",
                r"is in service, but logs in as suspended \(walled garden\)",
            ),
            (
                f"UPDATE delegations SET state = 'suspended' WHERE {OF_S1}",
                "is in service, but has a suspended address",
            ),
            (
                "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
                " VALUES ('acme', 'X-1', 'suspend', 'changes', 'S-1', 'd', 'r1', 'rolled_back');"
                "UPDATE billing_services SET status = 'suspended', suspended_by_order = 'X-1'"
                " WHERE created_by_order = 'O-1'",
                "is in service, but is not charged",
            ),
        )
    ),
    Break(
        "overdue_suspension",
        "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order, resume_at)"
        " VALUES ('acme', 'S-1', 'slow', 'non-payment', 'X-1', now() - interval '2 hours')",
        "S-1",
        r"was to resume on \d{4}-\d\d-\d\d \d\d:\d\d UTC, but is still suspended by order X-1",
        also=("half_suspended",),
    ),
    Break(
        "unrestricted_session",
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, recorded_at)"
        " VALUES ('4F0C', '1', 'S-1@acme.lastmile', '192.0.2.1', now() - interval '3 hours');"
        "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order, created_at)"
        " VALUES ('acme', 'S-1', 'slow', 'non-payment', 'X-1', now() - interval '2 hours')",
        "S-1",
        r"is suspended \(slow\) by order X-1, but session 4F0C on NAS 192.0.2.1 is open, and no NAS has confirmed "
        "that it was told",
        also=("half_suspended",),
    ),
    Break(
        "terminated_order",
        "UPDATE orders SET status = 'abandoned' WHERE order_id = 'O-1'",
        "O-1",
        "provision of S-1 is abandoned, and no later order has completed its work",
    ),
    Break(
        "contradicted_call",
        f"{WAITING} ('acme', 'onu', 'ACME0000FFFF', 'S-1', true, '{{}}', 'offline', 'O-1', now(), now())",
        "S-1",
        r"a call waits that puts ONU ACME0000FFFF into service, but the line has ACME0000000\d",
    ),
    Break(
        "contradicted_call",
        f"{WAITING} ('acme', 'cpe', '00:1a:2b:00:00:01', 'S-1', false, '{{}}', 'offline', 'O-1', now(), now())",
        "S-1",
        r"a call waits that puts CPE 00:1a:2b:00:00:01 out of service, but it should be in service",
    ),
    Break(
        "stale_device_call",
        f"{WAITING} ('acme', 'cpe', '00:1a:2b:00:00:01', 'S-1', true, '{{}}', 'offline', 'O-1', now(),"
        " now() - interval '31 days')",
        "S-1",
        r"CPE 00:1a:2b:00:00:01 should be in service, and has not followed since .*",
    ),
]
