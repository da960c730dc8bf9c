-- The audit log: who changed which record. Triggers write it; no role may insert, change or forge an entry.

CREATE TABLE audit_log (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id       text,
    actor           text NOT NULL,
    order_id        text,
    subscriber_ref  text,
    record          text NOT NULL,
    key             text NOT NULL,
    action          text NOT NULL CHECK (action IN ('created', 'changed', 'removed', 'read')),
    before          jsonb,
    after           jsonb
);
COMMENT ON TABLE audit_log IS
    'The audit log: an entry for each change of a record that a person or an order makes, and for each time that a '
    'password is shown. Append-only; the clean-up '
    'deletes entries that are older than the audit period.';
COMMENT ON COLUMN audit_log.tenant_id IS 'NULL: the record belongs to no tenant, such as a NAS.';
COMMENT ON COLUMN audit_log.actor IS 'The setting lastmile.actor of the transaction; without it, the database login.';
COMMENT ON COLUMN audit_log.order_id IS
    'The setting lastmile.order of the transaction; NULL: the change was made for no order.';
COMMENT ON COLUMN audit_log.record IS 'The table.';
COMMENT ON COLUMN audit_log.key IS 'The name of the record: see the trigger of its table.';
COMMENT ON COLUMN audit_log.before IS 'The columns that changed, with their old values; NULL: the record was created.';
COMMENT ON COLUMN audit_log.after IS 'The columns that changed, with their new values; NULL: the record was removed.';

CREATE INDEX audit_log_by_subscriber ON audit_log (tenant_id, subscriber_ref, id);
COMMENT ON INDEX audit_log_by_subscriber IS '`lastmile history` of a subscriber.';
CREATE INDEX audit_log_of_reads ON audit_log (tenant_id, subscriber_ref, at) WHERE action = 'read';
COMMENT ON INDEX audit_log_of_reads IS 'lastmile_read_credentials: whether a caller has read a password within a day.';
CREATE INDEX audit_log_by_time ON audit_log (at);
COMMENT ON INDEX audit_log_by_time IS 'The clean-up: entries that are older than the audit period.';
CREATE INDEX audit_log_of_customers ON audit_log (tenant_id, key) WHERE record = 'customers';
COMMENT ON INDEX audit_log_of_customers IS 'Forgetting the personal data of a customer.';

-- SECURITY DEFINER: the trigger inserts as the owner of the table, since no other role may.
CREATE FUNCTION lastmile_audit_log() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    any_row jsonb := coalesce(new_row, old_row);
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(key, value) INTO old_row FROM jsonb_each(old_row)
        WHERE value IS DISTINCT FROM new_row -> key;
        IF old_row IS NULL THEN
            RETURN NULL;
        END IF;
        SELECT jsonb_object_agg(key, new_row -> key) INTO new_row FROM jsonb_object_keys(old_row) AS key;
    END IF;
    IF TG_NARGS > 1 THEN
        old_row := jsonb_set(old_row, ARRAY[TG_ARGV[1]], '"secret"', false);
        new_row := jsonb_set(new_row, ARRAY[TG_ARGV[1]], '"secret"', false);
    END IF;
    INSERT INTO audit_log (tenant_id, actor, order_id, subscriber_ref, record, key, action, before, after)
    VALUES (any_row ->> CASE TG_TABLE_NAME WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END,
            coalesce(nullif(current_setting('lastmile.actor', true), ''), session_user),
            nullif(current_setting('lastmile.order', true), ''),
            -- Where the change was made for no order, the row itself says whose it is.
            coalesce(nullif(current_setting('lastmile.subscriber', true), ''), any_row ->> 'subscriber_ref',
                     CASE WHEN TG_TABLE_NAME LIKE 'rad%' THEN
                         coalesce((lastmile_find_account(any_row ->> 'username')).subscriber_ref,
                                  split_part(any_row ->> 'username', '@', 1)) END,
                     CASE TG_TABLE_NAME WHEN 'subscribers' THEN any_row ->> 'ref' END,
                     (SELECT ref FROM subscribers WHERE id = (any_row ->> 'subscriber_id')::uuid)),
            TG_TABLE_NAME, any_row ->> TG_ARGV[0],
            CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed' ELSE 'removed' END,
            old_row, new_row);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastmile_audit_log IS
    'Record a row''s change with the columns that changed. Arguments of the trigger: the column that names the '
    'record; and a column whose value is not recorded, only that it changed.';
-- A role that may run the function could make a trigger of it on a table of its own, and forge entries that way.
REVOKE EXECUTE ON FUNCTION lastmile_audit_log() FROM PUBLIC;

-- SECURITY DEFINER: only this function and the triggers write to the audit log.
CREATE FUNCTION lastmile_read_credentials(subscriber text, record_once_a_day boolean)
RETURNS TABLE (username text, password text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    reader text := coalesce(nullif(current_setting('lastmile.actor', true), ''), session_user);
BEGIN
    FOR username, password IN
        SELECT r.username, CASE r.attribute WHEN 'Cleartext-Password' THEN r.value END FROM radcheck r
        WHERE r.tenant_id = nullif(current_setting('lastmile.tenant', true), '') AND r.subscriber_ref = subscriber
          AND lastmile_is_account(r.attribute, r.value)
    LOOP
        INSERT INTO audit_log (tenant_id, actor, subscriber_ref, record, key, action)
        SELECT current_setting('lastmile.tenant'), reader, subscriber, 'radcheck', username, 'read'
        WHERE NOT record_once_a_day OR NOT EXISTS (
            SELECT FROM audit_log a
            WHERE a.tenant_id = current_setting('lastmile.tenant') AND a.subscriber_ref = subscriber
              AND a.record = 'radcheck' AND a.key = lastmile_read_credentials.username AND a.action = 'read'
              AND a.actor = reader AND a.at > now() - interval '1 day');
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION lastmile_read_credentials IS
    'The user name and the password of a line of the transaction''s tenant. Records in the audit log who asked. An ACS '
    'asks in each session of the CPE: with record_once_a_day, a further read of the same caller within a day is not '
    'recorded.';
REVOKE EXECUTE ON FUNCTION lastmile_read_credentials(text, boolean) FROM PUBLIC;

-- SECURITY DEFINER: only this function and the triggers write to the audit log.
CREATE FUNCTION lastmile_drop_device_call(subscriber text, named text, decided_by text, why text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant text := nullif(current_setting('lastmile.tenant', true), '');
    gone pending_device_calls;
BEGIN
    DELETE FROM pending_device_calls p
    WHERE p.tenant_id = tenant AND p.subscriber_ref = subscriber AND p.identity = named
      AND (p.waits_for <> '' OR p.error <> '')
    RETURNING * INTO gone;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE devices d SET confirmed = false
    WHERE d.tenant_id = tenant AND d.subscriber_ref = subscriber AND d.identity = named AND d.confirmed;
    INSERT INTO audit_log (tenant_id, actor, order_id, subscriber_ref, record, key, action, before, after)
    VALUES (tenant, coalesce(nullif(current_setting('lastmile.actor', true), ''), session_user), gone.order_id,
            subscriber, 'pending_device_calls', named, 'removed',
            jsonb_build_object('switches_on', gone.switches_on, 'waits_for', gone.waits_for, 'error', gone.error,
                               'since', gone.since),
            jsonb_build_object('by', decided_by, 'why', why));
    RETURN true;
END $$;
COMMENT ON FUNCTION lastmile_drop_device_call IS
    'End the pending call of a device that will never follow, in the transaction''s tenant, and record in the audit log '
    'who decided it and why. The state of the device is then not confirmed. False: no call of the device waits.';
REVOKE EXECUTE ON FUNCTION lastmile_drop_device_call(text, text, text, text) FROM PUBLIC;

CREATE FUNCTION lastmile_without_personal_data(entry jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT entry || coalesce(jsonb_object_agg(key, 'forgotten'), '{}') FROM jsonb_each(entry)
    WHERE key IN ('name', 'email', 'phone') AND value <> 'null'
$$;
COMMENT ON FUNCTION lastmile_without_personal_data IS
    'An entry about a customer, with "forgotten" in place of name, e-mail and phone.';

-- SECURITY DEFINER: no role may change an entry of the audit log.
CREATE FUNCTION lastmile_forget_customer(customer text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant text := nullif(current_setting('lastmile.tenant', true), '');
BEGIN
    UPDATE customers SET name = 'forgotten', email = NULL, phone = NULL, forgotten_at = now()
    WHERE tenant_id = tenant AND ref = customer;
    UPDATE audit_log SET before = lastmile_without_personal_data(before), after = lastmile_without_personal_data(after)
    WHERE tenant_id = tenant AND record = 'customers' AND key = customer;
    UPDATE previous_values p
    SET value = value || jsonb_build_object('before', lastmile_without_personal_data(value -> 'before'),
                                            'after', lastmile_without_personal_data(value -> 'after'))
    FROM customers c
    WHERE c.tenant_id = tenant AND c.ref = customer
      AND p.tenant_id = tenant AND p.value ->> 'customer_id' = c.id::text AND p.value ? 'before';
END $$;
COMMENT ON FUNCTION lastmile_forget_customer IS
    'Delete the personal data of a customer of the transaction''s tenant, in the audit log too. The references stay.';
REVOKE EXECUTE ON FUNCTION lastmile_forget_customer(text) FROM PUBLIC;

CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('id');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON customers
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('ref');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON subscribers
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('ref');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON network_profiles
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('id');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON billing_services
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('id');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON suspensions
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('id');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON devices
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('kind');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON radcheck
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('username', 'value');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON radusergroup
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('username');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON radreply
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('username');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON nas
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('nasname', 'secret');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON radius_templates
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('name');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON radius_choices
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('tenant_id');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON acknowledgements
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('subject');
-- Not each accepted order: it becomes an order. Its refusal and its cancellation are recorded.
CREATE TRIGGER audit_log AFTER UPDATE OF state ON accepted_orders
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('order_id', 'body');
-- Not the time of the last use.
CREATE TRIGGER audit_log AFTER INSERT OR DELETE OR UPDATE OF
    tenant_id, name, key_sha256, permissions, kind, expires_at, revoked_at
    ON api_keys FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('id', 'key_sha256');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON hook_sources
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('name', 'secret');
CREATE TRIGGER audit_log AFTER INSERT OR UPDATE OR DELETE ON device_controllers
    FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('name', 'secret');
-- Not the columns that allocation moves: the frontier, netbox_closed_until and netbox_full_since.
CREATE TRIGGER audit_log AFTER INSERT OR DELETE OR UPDATE OF
    name, purpose, prefix, delegated_length, vrf, region, country, mode, netbox_prefix_id, netbox_vrf_id,
    netbox_release, netbox_record, netbox_block_length, excluded, closed_at
    ON pools FOR EACH ROW EXECUTE FUNCTION lastmile_audit_log('name');
