-- Customers, subscribers, their lines, devices and billing.
--
-- In every table, `created_by_order` is the order that created the row: an undo removes only the rows of its own order.

CREATE TABLE customers (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id         text NOT NULL REFERENCES tenants (id),
    ref               text NOT NULL,
    name              text NOT NULL,
    email             text,
    phone             text,
    created_by_order  text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    forgotten_at      timestamptz,
    UNIQUE (tenant_id, ref)
);
COMMENT ON TABLE customers IS 'Customers: each pays for one or more subscribers. Written by provision orders.';
COMMENT ON COLUMN customers.ref IS 'The caller''s name for the customer.';
COMMENT ON COLUMN customers.forgotten_at IS
    'When the personal data of this former customer was deleted: name, e-mail and phone. NULL: it was not.';

CREATE TABLE subscribers (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id          text NOT NULL REFERENCES tenants (id),
    ref                text NOT NULL,
    customer_id        uuid NOT NULL REFERENCES customers (id),
    created_by_order   text NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    archived_at        timestamptz,
    archived_by_order  text,
    archive_reason     text
);
COMMENT ON TABLE subscribers IS
    'Subscribers in service, and archived ones: a subscriber that comes back after a deprovision has a further row.';
COMMENT ON COLUMN subscribers.ref IS 'The caller''s name for the subscriber: `subscriber_ref` in all other tables.';
COMMENT ON COLUMN subscribers.archived_at IS 'When a deprovision order ended the service; NULL while in service.';

CREATE UNIQUE INDEX subscribers_current ON subscribers (tenant_id, ref) WHERE archived_at IS NULL;
COMMENT ON INDEX subscribers_current IS
    'A reference is in service once. Every step of an order finds its subscriber by it.';
CREATE INDEX subscribers_by_ref ON subscribers (tenant_id, ref);
COMMENT ON INDEX subscribers_by_ref IS 'The status and history of a subscriber, with the archived rows.';
CREATE INDEX subscribers_by_customer ON subscribers (customer_id);
COMMENT ON INDEX subscribers_by_customer IS 'The undo of create_customer: whether the customer has subscribers.';

CREATE TABLE network_profiles (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id         text NOT NULL REFERENCES tenants (id),
    subscriber_id     uuid NOT NULL UNIQUE REFERENCES subscribers (id),
    connection_type   text NOT NULL,
    onu_serial        text,
    onu_type          text,
    speed_profile     text,
    olt               text,
    pon_port          text,
    cpe_mac           macaddr,
    cpe_oui           text,
    cpe_product_class text,
    cpe_serial        text,
    duid              text,
    s_vlan            integer CHECK (s_vlan BETWEEN 1 AND 4094),
    c_vlan            integer CHECK (c_vlan BETWEEN 1 AND 4094),
    circuit_id        text,
    remote_id         text,
    option82_policy   text NOT NULL,
    access            text NOT NULL DEFAULT 'pppoe',
    identified_by     text,
    username          text,
    created_by_order  text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT network_profiles_cpe_mac UNIQUE (tenant_id, cpe_mac),
    CONSTRAINT network_profiles_duid UNIQUE (tenant_id, duid),
    -- btree_gist is not available everywhere; a range of one hash is how plain GiST compares for equality. An fttb line
    -- takes one point of the second range, any other line takes all of it.
    CONSTRAINT network_profiles_onu_serial EXCLUDE USING gist (
        int8range(hashtextextended(tenant_id || '/' || onu_serial, 0),
                  hashtextextended(tenant_id || '/' || onu_serial, 0), '[]') WITH &&,
        (CASE connection_type
         WHEN 'fttb' THEN int8range(uuid_hash_extended(subscriber_id, 0), uuid_hash_extended(subscriber_id, 0), '[]')
         ELSE int8range(NULL, NULL) END) WITH &&
    ) WHERE (onu_serial IS NOT NULL)
);
COMMENT ON TABLE network_profiles IS 'The line of a subscriber in service. Written by create_network_profile.';
COMMENT ON CONSTRAINT network_profiles_onu_serial ON network_profiles IS
    'An ONU is on one line, or on several fttb lines.';
COMMENT ON COLUMN network_profiles.connection_type IS
    'ftth, fttb, wireless or hybrid. Several fttb lines share an ONU.';
COMMENT ON COLUMN network_profiles.onu_type IS 'The type of the ONU, as the OLT controller names it.';
COMMENT ON COLUMN network_profiles.speed_profile IS
    'The profile of the OLT that has the rates of the plan; NULL: the controller sets the rates of the plan.';
COMMENT ON COLUMN network_profiles.cpe_oui IS
    'Six hexadecimal digits. TR-069 identifies a CPE by its OUI, product class and serial number.';
COMMENT ON COLUMN network_profiles.cpe_product_class IS 'NULL: the CPE reports none.';
COMMENT ON COLUMN network_profiles.duid IS
    'The DHCP unique identifier of the CPE (RFC 8415), as in 00:03:00:01:00:1a:2b:3c:4d:5e.';
COMMENT ON COLUMN network_profiles.s_vlan IS 'Outer VLAN id (IEEE 802.1ad).';
COMMENT ON COLUMN network_profiles.c_vlan IS 'Inner VLAN id (IEEE 802.1ad).';
COMMENT ON COLUMN network_profiles.circuit_id IS 'DHCP option 82, sub-option 1 (RFC 3046).';
COMMENT ON COLUMN network_profiles.remote_id IS 'DHCP option 82, sub-option 2 (RFC 3046).';
COMMENT ON COLUMN network_profiles.option82_policy IS
    'What happens to a login with another circuit id or remote id (RFC 3046): enforce, log or ignore. With enforce, the '
    'circuit_id is on no other line.';
COMMENT ON COLUMN network_profiles.access IS 'pppoe or ipoe: how the CPE logs in.';
COMMENT ON COLUMN network_profiles.identified_by IS
    'ipoe: what the BNG sends as the user name: mac, circuit_id or circuit_and_remote_id.';
COMMENT ON COLUMN network_profiles.username IS 'The user name that the order gave; the account is in radcheck.';

CREATE INDEX network_profiles_by_onu ON network_profiles (tenant_id, onu_serial);
COMMENT ON INDEX network_profiles_by_onu IS 'The message that names the line that an ONU is on.';
CREATE UNIQUE INDEX network_profiles_cpe
    ON network_profiles (tenant_id, cpe_oui, coalesce(cpe_product_class, ''), cpe_serial)
    WHERE cpe_serial IS NOT NULL;
COMMENT ON INDEX network_profiles_cpe IS
    'A CPE by its OUI, product class and serial number is on one line, and the message that names it.';
CREATE UNIQUE INDEX network_profiles_vlans ON network_profiles (tenant_id, olt, pon_port, s_vlan, c_vlan);
COMMENT ON INDEX network_profiles_vlans IS
    'A pair of VLANs is on one line of an OLT port, and the message that names it.';
CREATE UNIQUE INDEX network_profiles_circuit ON network_profiles (tenant_id, circuit_id)
    WHERE option82_policy = 'enforce';
COMMENT ON INDEX network_profiles_circuit IS 'An enforced circuit_id is on one line, and the message that names it.';

CREATE FUNCTION lastmile_percent_encode(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_agg(CASE WHEN c ~ '[A-Za-z0-9_]' THEN c ELSE '%' || upper(to_hex(ascii(c))) END, '' ORDER BY n)
    FROM regexp_split_to_table(written, '') WITH ORDINALITY AS characters (c, n)
$$;
COMMENT ON FUNCTION lastmile_percent_encode IS
    'Printable ASCII with all but letters, digits and _ escaped (RFC 3986); NULL of NULL.';

-- The parts are escaped, since a product class can contain a hyphen.
CREATE FUNCTION lastmile_cpe_identity(mac macaddr, oui text, product_class text, serial text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(mac::text, oui || '-' || coalesce(lastmile_percent_encode(product_class) || '-', '')
                               || lastmile_percent_encode(serial))
$$;
COMMENT ON FUNCTION lastmile_cpe_identity IS
    'The identity of a line''s CPE in devices, as lastmile.contract.lines.Line.cpe_identity writes it; NULL: no CPE.';

CREATE TABLE devices (
    tenant_id         text NOT NULL REFERENCES tenants (id),
    subscriber_ref    text NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('onu', 'cpe')),
    identity          text NOT NULL,
    in_service        boolean NOT NULL,
    confirmed         boolean NOT NULL DEFAULT false,
    created_by_order  text NOT NULL,
    updated_by_order  text NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subscriber_ref, kind)
);
COMMENT ON TABLE devices IS 'The state that the ONU and the CPE of a subscriber should be in. Written by device steps.';
COMMENT ON COLUMN devices.identity IS
    'The serial number of an ONU. The MAC address of a CPE, or else its OUI, product class and serial number as TR-069 '
    'writes them.';
COMMENT ON COLUMN devices.in_service IS 'true: the device should be in service; false: out of service.';
COMMENT ON COLUMN devices.confirmed IS 'A controller has brought the device into that state.';
COMMENT ON COLUMN devices.created_by_order IS
    'The order that brought the line''s device into service; a replace_device order puts another one in its place.';

CREATE INDEX devices_by_identity ON devices (tenant_id, kind, identity);
COMMENT ON INDEX devices_by_identity IS
    'deactivate_onu: whether another line needs the same device. An ACS asks for a CPE whose line has ended.';

CREATE TABLE pending_device_calls (
    tenant_id       text NOT NULL REFERENCES tenants (id),
    kind            text NOT NULL CHECK (kind IN ('onu', 'cpe')),
    identity        text NOT NULL,
    subscriber_ref  text NOT NULL,
    switches_on     boolean NOT NULL,
    device          jsonb NOT NULL,
    waits_for       text NOT NULL,
    error           text NOT NULL DEFAULT '',
    order_id        text NOT NULL,
    since           timestamptz NOT NULL DEFAULT now(),
    due_at          timestamptz NOT NULL,
    claimed_until   timestamptz,
    version         bigint NOT NULL DEFAULT 1,
    is_check        boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, kind, identity, subscriber_ref)
);
COMMENT ON TABLE pending_device_calls IS
    'The calls that a controller has accepted and the device has yet to follow. The reconciler of a worker repeats them.';
COMMENT ON COLUMN pending_device_calls.switches_on IS 'true: the call puts the device into service; false: out of service.';
COMMENT ON COLUMN pending_device_calls.device IS 'The device and its place, as the controller was told.';
COMMENT ON COLUMN pending_device_calls.waits_for IS
    'What the device waits for, as the controller says. Empty: the controller is being asked, or an earlier call may have '
    'reached the device after this one.';
COMMENT ON COLUMN pending_device_calls.error IS 'Why the last repetition failed; empty: the controller has answered it.';
COMMENT ON COLUMN pending_device_calls.order_id IS 'The order that made the call.';
COMMENT ON COLUMN pending_device_calls.since IS 'When the device began to wait.';
COMMENT ON COLUMN pending_device_calls.due_at IS 'When the call is repeated.';
COMMENT ON COLUMN pending_device_calls.claimed_until IS
    'Until when a reconciler has the call; NULL: none has.';
COMMENT ON COLUMN pending_device_calls.version IS 'Grows when a later call or another description replaces the call.';
COMMENT ON COLUMN pending_device_calls.is_check IS
    'true: a round asks again for a device that is in service. The device does not wait.';

CREATE INDEX pending_device_calls_due ON pending_device_calls (due_at);
COMMENT ON INDEX pending_device_calls_due IS 'The reconciler: the calls that are due.';

CREATE TABLE billing_services (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id           text NOT NULL REFERENCES tenants (id),
    subscriber_id       uuid NOT NULL REFERENCES subscribers (id),
    plan                text NOT NULL,
    price_ref           text,
    status              text NOT NULL CHECK (status IN ('active', 'suspended', 'ended')),
    started_at          timestamptz NOT NULL DEFAULT now(),
    ended_at            timestamptz,
    suspended_by_order  text,
    created_by_order    text NOT NULL
);
COMMENT ON TABLE billing_services IS 'What a subscriber is billed for. Written by the billing steps.';
COMMENT ON COLUMN billing_services.plan IS 'The name of the plan in the order.';
COMMENT ON COLUMN billing_services.price_ref IS 'The billing system''s name for the price.';
COMMENT ON COLUMN billing_services.suspended_by_order IS
    'The suspend or deprovision order that suspended the service; its undo resumes what it suspended.';

CREATE UNIQUE INDEX billing_services_current ON billing_services (subscriber_id) WHERE status <> 'ended';
COMMENT ON INDEX billing_services_current IS 'A subscriber has one service at a time.';

CREATE TABLE billing_events (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id          text NOT NULL REFERENCES tenants (id),
    service_id         uuid NOT NULL,
    subscriber_ref     text NOT NULL,
    event              text NOT NULL CHECK (
        event IN ('started', 'cancelled', 'suspended', 'resumed', 'ended', 'plan_changed', 'transferred')),
    plan               text NOT NULL,
    previous_plan      text,
    price_ref          text,
    mode               text,
    previous_customer  text,
    customer           text,
    order_id           text NOT NULL,
    at                 timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing_events IS
    'Events for a billing system. Rows are never changed: a rolled-back order leaves started and cancelled.';
COMMENT ON COLUMN billing_events.service_id IS 'billing_services.id; the service may be deleted.';
COMMENT ON COLUMN billing_events.previous_plan IS 'plan_changed: the plan before.';
COMMENT ON COLUMN billing_events.event IS
    'cancelled: the order that started the service was rolled back. suspended and resumed by one order cancel out: the '
    'order was rolled back.';
COMMENT ON COLUMN billing_events.previous_customer IS 'transferred: the reference of the customer before.';
COMMENT ON COLUMN billing_events.customer IS 'transferred: the reference of the customer who pays from now on.';
COMMENT ON COLUMN billing_events.mode IS
    'For suspended: the mode of the suspension. NULL where a deprovision order suspends the service before its end.';

CREATE INDEX billing_events_by_subscriber ON billing_events (tenant_id, subscriber_ref, id);
COMMENT ON INDEX billing_events_by_subscriber IS 'A billing system''s reading of one subscriber''s events, in order.';

CREATE TABLE suspensions (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id         text NOT NULL REFERENCES tenants (id),
    subscriber_ref    text NOT NULL,
    mode              text NOT NULL CHECK (mode IN ('block', 'walled_garden', 'slow')),
    reason            text NOT NULL,
    resume_at         timestamptz,
    created_by_order  text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    ended_by_order    text,
    ended_at          timestamptz
);
COMMENT ON TABLE suspensions IS 'The suspensions of lines. A line is suspended while one of its rows has no end.';
COMMENT ON COLUMN suspensions.mode IS
    'block: every login is refused. walled_garden: a login reaches only the operator''s pages. slow: a low rate.';
COMMENT ON COLUMN suspensions.reason IS 'Why, for the history. No personal data.';
COMMENT ON COLUMN suspensions.resume_at IS 'When the line resumes by itself; NULL: when an order resumes it.';
COMMENT ON COLUMN suspensions.created_by_order IS 'The suspend order. Its rollback deletes the row.';
COMMENT ON COLUMN suspensions.ended_by_order IS 'The order that resumed or ended the line. Its rollback opens the row again.';

CREATE UNIQUE INDEX suspensions_current ON suspensions (tenant_id, subscriber_ref) WHERE ended_at IS NULL;
COMMENT ON INDEX suspensions_current IS 'A line is suspended once, and every order reads the state of its line here.';
CREATE INDEX suspensions_due ON suspensions (resume_at, id) WHERE ended_at IS NULL AND resume_at IS NOT NULL;
COMMENT ON INDEX suspensions_due IS 'The lines that resume by themselves, by time.';
CREATE INDEX suspensions_by_subscriber ON suspensions (tenant_id, subscriber_ref, id);
COMMENT ON INDEX suspensions_by_subscriber IS 'The suspensions of a subscriber for `lastmile status`, and those that an order has ended.';

CREATE TABLE previous_values (
    tenant_id         text NOT NULL REFERENCES tenants (id),
    created_by_order  text NOT NULL,
    step              text NOT NULL,
    subscriber_ref    text NOT NULL,
    value             jsonb NOT NULL,
    recorded_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, created_by_order, step)
);
COMMENT ON TABLE previous_values IS
    'What the steps of a running order have replaced. An undo restores the value and deletes its row; a completed order '
    'deletes its rows. The audit reports a row of any other ended order.';
COMMENT ON COLUMN previous_values.value IS 'What the step needs to restore what it replaced.';

CREATE INDEX previous_values_by_subscriber ON previous_values (tenant_id, subscriber_ref);
COMMENT ON INDEX previous_values_by_subscriber IS 'The closing of an order that completes or undoes earlier changes.';
