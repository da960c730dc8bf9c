"""A database with rows of two tenants in every table that belongs to tenants."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.devstack.logins import make_login

# One row of every table, as a tenant's daily business leaves it; {t} is the tenant, {n} its number.
ROWS = """
INSERT INTO tenants (id, name) VALUES ('{t}', '{t}');
INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)
    VALUES ('{t}', 'o1', 'provision', 'creates', 'S-1', 'd', 'r1', 'completed');
INSERT INTO accepted_orders
    (tenant_id, order_id, operation, subscriber_ref, digest, urgency, when_busy, state, body)
    VALUES ('{t}', 'o2', 'deprovision', 'S-1', 'd', 'normal', 'wait', 'waiting', 'order');
INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('{t}', 'C-1', 'Ada', 'o1');
INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
    SELECT tenant_id, 'S-1', id, 'o1' FROM customers WHERE tenant_id = '{t}';
INSERT INTO network_profiles (tenant_id, subscriber_id, connection_type, option82_policy, created_by_order)
    SELECT tenant_id, id, 'ftth', 'log', 'o1' FROM subscribers WHERE tenant_id = '{t}';
INSERT INTO pending_device_calls
    (tenant_id, kind, identity, subscriber_ref, switches_on, device, waits_for, order_id, due_at)
    VALUES ('{t}', 'cpe', '00:1a:2b:00:00:0{n}', 'S-1', true, '{{}}', 'the CPE is offline', 'o1', now());
INSERT INTO billing_services (tenant_id, subscriber_id, plan, status, created_by_order)
    SELECT tenant_id, id, 'home', 'active', 'o1' FROM subscribers WHERE tenant_id = '{t}';
INSERT INTO billing_events (tenant_id, service_id, subscriber_ref, event, plan, order_id)
    SELECT tenant_id, id, 'S-1', 'started', 'home', 'o1' FROM billing_services WHERE tenant_id = '{t}';
INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order)
    VALUES ('{t}', 'S-1', 'block', 'unpaid', 'o1');
INSERT INTO previous_values (tenant_id, created_by_order, step, subscriber_ref, value)
    VALUES ('{t}', 'o1', 'update_customer', 'S-1', '[]');
INSERT INTO devices (tenant_id, subscriber_ref, kind, identity, in_service, created_by_order, updated_by_order)
    VALUES ('{t}', 'S-1', 'onu', 'ABCD00000001', true, 'o1', 'o1');
INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
    VALUES ('{t}', 'home', 'ipv6_pd', '2001:db8:{n}::/48', 56, 0, 256, 0);
INSERT INTO slots (pool_id, slot, tenant_id) SELECT id, 0, tenant_id FROM pools WHERE tenant_id = '{t}';
INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                         created_by_order, state)
    SELECT tenant_id, id, 0, '2001:db8:{n}::/56', 'S-1', 'ipv6_pd', 'k', 'o1', 'active'
    FROM pools WHERE tenant_id = '{t}';
INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref, from_state, to_state,
                               order_id, reason)
    SELECT tenant_id, id, prefix, 'S-1', 'allocated', 'active', 'o1', 'ordered'
    FROM delegations WHERE tenant_id = '{t}';
INSERT INTO netbox_removals (tenant_id, allocation_key, pool_id, due_at)
    SELECT tenant_id, 'gone', id, now() FROM pools WHERE tenant_id = '{t}';
INSERT INTO netbox_blocks (pool_id, tenant_id, key)
    SELECT id, tenant_id, 'lastmile/block/{t}' FROM pools WHERE tenant_id = '{t}';
INSERT INTO netbox_records (pool_id, slot, tenant_id) SELECT id, 0, tenant_id FROM pools WHERE tenant_id = '{t}';
INSERT INTO netbox_foreign_prefixes (pool_id, netbox_id, tenant_id, prefix, description, first_slot, end_slot)
    SELECT id, 1, tenant_id, '2001:db8:{n}::/56', 'by hand', 0, 1 FROM pools WHERE tenant_id = '{t}';
INSERT INTO acknowledgements (finding, invariant, tenant_id, subject, key, acknowledged_by, why)
    VALUES ('f-{t}', 'terminated_order', '{t}', 'o1', 'o1', 'noc', 'known');
INSERT INTO api_keys (id, tenant_id, name, key_sha256, permissions, kind)
    VALUES (repeat('{n}', 12), '{t}', 'crm', sha256('{t}'), '{{orders:write}}', 'system');
INSERT INTO device_controllers
    (name, driver, kind, tenant_id, url, username, secret, timeout_seconds, in_flight, olts, models, options)
    VALUES ('olts-{t}', 'voltha', 'onu', '{t}', 'grpc://127.0.0.1', '', '\\x00', 10, 8, '{{}}', '{{}}', '{{}}');
INSERT INTO hook_sources (name, tenant_id, mapping, secret) VALUES ('crm-{t}', '{t}', 'uisp', '\\x00');
INSERT INTO hook_events (tenant_id, source, event_id, event, subscriber_ref, state, order_ids, body)
    VALUES ('{t}', 'crm-{t}', 'e1', 'service.add', 'S-1', 'received', '{{}}', '\\x00');
INSERT INTO idempotency_keys (id, tenant_id, digest, status, body) VALUES (sha256('{t}'), '{t}', '\\x00', 201, '\\x00');
INSERT INTO given_passwords (tenant_id, order_id, key_name, sealed) VALUES ('{t}', 'o2', 'k1', '\\x00');
INSERT INTO former_usernames (tenant_id, username, former, logins_until) VALUES ('{t}', 'new', 'old', now());
INSERT INTO radcheck (username, attribute, op, value) VALUES ('S-1@{t}.lastmile', 'Cleartext-Password', ':=', 'p');
INSERT INTO radreply (username, attribute, value) VALUES ('S-1@{t}.lastmile', 'Framed-IP-Address', '192.0.2.1');
INSERT INTO radusergroup (username, groupname) VALUES ('S-1@{t}.lastmile', 'home@{t}.lastmile');
INSERT INTO radgroupcheck (groupname, attribute, value) VALUES ('home@{t}.lastmile', 'NAS-Port-Type', 'Ethernet');
INSERT INTO radgroupreply (groupname, attribute, value) VALUES ('home@{t}.lastmile', 'Session-Timeout', '3600');
INSERT INTO radius_choices (tenant_id, templates, slow_download_kbps, slow_upload_kbps)
    VALUES ('{t}', '{{wispr}}', 1000, 1000);
INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress)
    VALUES ('1', '{t}', 'S-1@{t}.lastmile', '192.0.2.1');
INSERT INTO radpostauth (username, reply) VALUES ('S-1@{t}.lastmile', 'Access-Accept');
"""


@pytest.fixture
async def populated(owner: asyncpg.Connection) -> asyncpg.Connection:
    """The owner of a database in which `acme` and `other` have a row in every table of theirs."""
    for number, tenant in enumerate(("acme", "other"), start=1):
        await owner.execute(ROWS.format(t=tenant, n=number))
    return owner


@pytest.fixture
async def login_url(owner_url: str) -> str:
    """Return the URL of a login like a production worker's: a member of the group roles only."""
    return await make_login(owner_url, "tests_login", "chosen-by-the-test", "lastmile_app", "lastmile_platform")


@pytest.fixture
async def application(login_url: str) -> AsyncIterator[Database]:
    """The database through such a login."""
    database = Database(login_url)
    try:
        yield database
    finally:
        await database.close()
