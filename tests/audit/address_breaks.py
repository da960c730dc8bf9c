"""Breaks of the invariants of addresses: slots, RADIUS, NetBox and sessions."""

from tests.audit.breaks import IN_NETBOX, Break
from tests.support.audited_env import FREE_SLOT, OF_S1

__all__ = ["ADDRESS_BREAKS"]

ADDRESS_BREAKS = [
    Break(
        "misplaced",
        "UPDATE slots SET slot = slot + 1000 WHERE delegation_id IS NOT NULL; UPDATE delegations SET slot = slot + 1000"
        " WHERE released_at IS NULL",
        r"2001:db8:.*/56",
        r"differs from the prefix of slot 10\d\d of pool home",
    ),
    Break(
        "misplaced",
        IN_NETBOX.format(prefix="'2001:db8:5000::/64'", state="revoking"),
        "2001:db8:5000::/64",
        "is not a /64 of pool there",
    ),
    Break(
        "second_delegation",
        f"""
        DROP INDEX delegations_live;
        WITH second AS (
            INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                                     created_by_order, state)
            SELECT tenant_id, pool_id, 100, '2001:db8:0:6400::/56', subscriber_ref, purpose, 'second',
                   created_by_order, 'revoking' FROM delegations WHERE {OF_S1} RETURNING id)
        UPDATE slots SET delegation_id = second.id FROM second WHERE {FREE_SLOT}
        """,
        "S-1",
        "2 live delegations for ipv6_pd",
    ),
    Break(
        "endless_overlap",
        f"UPDATE delegations SET replaced_by_order = 'O-1' WHERE {OF_S1}",
        r"2001:db8:.*/56",
        "replaced for S-1 by order O-1, which ended completed without releasing it",
    ),
    Break(
        "leaked_slot",
        f"UPDATE slots SET delegation_id = 999999 WHERE {FREE_SLOT}",
        "2001:db8:0:6400::/56",
        "occupied, but no delegation holds it",
        repaired=True,
    ),
    Break(
        "slotless",
        f"UPDATE slots SET delegation_id = NULL WHERE delegation_id = (SELECT id FROM delegations WHERE {OF_S1})",
        r"2001:db8:.*/56",
        "held by S-1, but not recorded in its slot",
        repaired=True,
    ),
    Break(
        "miscounted",
        "DELETE FROM delegation_counts WHERE number > 0 AND state = 'active' AND ctid = ("
        "SELECT ctid FROM delegation_counts WHERE number > 0 AND state = 'active' LIMIT 1)",
        "acme",
        "pool home has 3 active delegations, but the counter says 2",
        repaired=True,
    ),
    Break(
        "overdue_in_netbox",
        "INSERT INTO netbox_removals (tenant_id, allocation_key, pool_id, prefix, due_at)"
        " SELECT 'acme', 'gone', id, '2001:db8:0:6400::/56', now() - interval '2 days' FROM pools WHERE name = 'home'",
        "2001:db8:0:6400::/56",
        "released, and due for removal from pool home in NetBox since .* UTC",
    ),
    Break(
        "not_in_radius",
        "DELETE FROM radreply WHERE username = 'S-1@acme.lastmile'",
        r"2001:db8:.*/56",
        "active for S-1, but RADIUS does not assign it",
        repaired=True,
    ),
    Break(
        "only_in_radius",
        "INSERT INTO radreply (username, attribute, op, value)"
        " VALUES ('S-1@acme.lastmile', 'Delegated-IPv6-Prefix', ':=', '2001:db8:0:6400::/56')",
        "S-1@acme.lastmile",
        "Delegated-IPv6-Prefix 2001:db8:0:6400::/56 is assigned without an active or suspended delegation",
        repaired=True,
    ),
    Break(
        "vrf_not_in_radius",
        "UPDATE pools SET vrf = 'red' WHERE name = 'home'; INSERT INTO radreply (username, attribute, op, value)"
        " SELECT username, 'Cisco-AVPair', ':=', 'ip:vrf-id=red' FROM radreply"
        " WHERE attribute = 'Delegated-IPv6-Prefix' AND username <> 'S-1@acme.lastmile'",
        "S-1@acme.lastmile",
        "S-1 is in VRF red, but RADIUS does not assign that VRF",
        repaired=True,
    ),
    Break(
        "vrf_only_in_radius",
        "INSERT INTO radreply (username, attribute, op, value)"
        " VALUES ('S-1@acme.lastmile', 'Cisco-AVPair', ':=', 'ip:vrf-id=red'),"
        " ('S-1@acme.lastmile', 'Cisco-AVPair', ':=', 'ip:addr-pool=x')",
        "S-1@acme.lastmile",
        "Cisco-AVPair ip:vrf-id=red is assigned, but no address is active in that VRF",
        repaired=True,
    ),
    Break(
        "behind_in_netbox",
        "INSERT INTO netbox_records (pool_id, slot, tenant_id, since)"
        " SELECT id, 0, tenant_id, '2026-05-03 14:00Z' FROM pools WHERE name = 'home'",
        r"2001:db8:.*/56",
        "not recorded in NetBox since 2026-05-03 14:00 UTC",
    ),
    Break(
        "foreign_prefix_in_block",
        "INSERT INTO netbox_foreign_prefixes (pool_id, netbox_id, tenant_id, prefix, description, first_slot, end_slot)"
        " SELECT id, 1, tenant_id, '2001:db8:ff::/56', 'lab', 9, 10 FROM pools WHERE name = 'home'",
        "2001:db8:ff::/56",
        r"a foreign prefix in NetBox \(lab\), inside a block of pool home, and withheld from subscribers",
    ),
    Break(
        "confirmed_too_early",
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress)"
        " VALUES ('4F0C', '1', 'S-3@acme.lastmile', '192.0.2.1')",
        r"2001:db8:.*/56",
        "S-3 has released it, and the end of its sessions was confirmed, but a login or a session has appeared since",
        repaired=True,
    ),
]
