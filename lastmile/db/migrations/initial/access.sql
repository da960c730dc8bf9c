-- Row-level security and grants. A role sees no row of a table with row-level security that no policy shows it.

-- `tenant` lets lastmile_app see and write the rows of the tenant that the transaction names. Without a name the
-- setting is NULL, which equals nothing. Slots, blocks and NetBox records of a pool that serves every tenant have none.
DO $$
DECLARE
    "table" text;
    current_tenant CONSTANT text := $q$nullif(current_setting('lastmile.tenant', true), '')$q$;
    "condition" text;
BEGIN
    FOREACH "table" IN ARRAY ARRAY[
        'tenants',
        'orders', 'accepted_orders', 'customers', 'subscribers', 'network_profiles', 'devices', 'pending_device_calls', 'billing_services', 'billing_events',
        'device_controllers', 'suspensions', 'previous_values', 'delegations', 'delegation_events', 'delegation_counts', 'netbox_removals',
        'pools', 'slots', 'netbox_blocks', 'netbox_records', 'netbox_foreign_prefixes',
        'given_passwords', 'former_usernames',
        'radcheck', 'radreply', 'radusergroup', 'radgroupcheck', 'radgroupreply', 'radacct', 'radpostauth',
        'radius_choices', 'audit_log', 'acknowledgements', 'api_keys',
        'idempotency_keys', 'hook_sources', 'hook_events'
    ] LOOP
        "condition" := CASE
            WHEN "table" = 'tenants' THEN format('id = %s', current_tenant)
            WHEN "table" IN ('pools', 'slots', 'netbox_blocks', 'netbox_records', 'netbox_foreign_prefixes')
                THEN format('%1$s IS NOT NULL AND (tenant_id IS NULL OR tenant_id = %1$s)', current_tenant)
            ELSE format('tenant_id = %s', current_tenant)
        END;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', "table");
        EXECUTE format('CREATE POLICY tenant ON %I TO lastmile_app USING (%s)', "table", "condition");
        EXECUTE format('CREATE POLICY platform ON %I TO lastmile_platform USING (true)', "table");
    END LOOP;

    FOREACH "table" IN ARRAY ARRAY[
        'radcheck', 'radreply', 'radusergroup', 'radgroupcheck', 'radgroupreply', 'radacct', 'radpostauth'
    ] LOOP
        EXECUTE format('CREATE POLICY radius ON %I TO lastmile_radius USING (true)', "table");
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO lastmile_app, lastmile_platform, lastmile_radius;
-- FreeRADIUS's serial columns, and the number in a block's key. Identity columns need no grant.
GRANT USAGE
    ON SEQUENCE radcheck_id_seq, radreply_id_seq, radusergroup_id_seq, radgroupcheck_id_seq, radgroupreply_id_seq
    TO lastmile_app, lastmile_platform;
GRANT USAGE ON SEQUENCE radacct_radacctid_seq, radpostauth_id_seq TO lastmile_platform, lastmile_radius;
GRANT USAGE ON SEQUENCE nas_id_seq, netbox_blocks_id_seq TO lastmile_platform;

GRANT SELECT, INSERT, UPDATE, DELETE
    ON orders, accepted_orders, customers, subscribers, network_profiles, devices, pending_device_calls,
       billing_services, suspensions,
       previous_values,
       delegations, netbox_removals,
       given_passwords, former_usernames, radcheck, radreply, radusergroup, radgroupcheck, radgroupreply
    TO lastmile_app, lastmile_platform;

-- Events are never changed by a tenant's work.
GRANT SELECT, INSERT ON billing_events, delegation_events TO lastmile_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON billing_events, delegation_events TO lastmile_platform;

-- Pools belong to the platform. A tenant's orders get slots from them, and learn from NetBox that a pool is full.
GRANT SELECT, UPDATE (frontier, netbox_full_since) ON pools TO lastmile_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON pools TO lastmile_platform;
GRANT SELECT, INSERT, UPDATE ON slots, netbox_records TO lastmile_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON slots, netbox_records TO lastmile_platform;
GRANT SELECT ON netbox_blocks, netbox_foreign_prefixes TO lastmile_app;
GRANT SELECT ON startable_orders TO lastmile_platform;
GRANT SELECT ON pool_bindings, pool_blocks, block_maintenance TO lastmile_app, lastmile_platform;
GRANT SELECT ON delegation_revocations, delegation_reply_items TO lastmile_platform;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON netbox_blocks, netbox_foreign_prefixes, netbox_comparisons, netbox_pending_inspections, netbox_failed_repairs
    TO lastmile_platform;

GRANT SELECT ON tenants, radacct, radpostauth, nas, radius_templates, radius_choices TO lastmile_app;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON tenants, radacct, radpostauth, nas, radius_templates, radius_choices TO lastmile_platform;
GRANT SELECT ON radcheck, radreply, radusergroup, radgroupcheck, radgroupreply, nas TO lastmile_radius;
GRANT SELECT, INSERT, UPDATE ON radacct, radpostauth, nasreload TO lastmile_radius;

-- The triggers of FreeRADIUS's tables call the function with the rights of the role that writes.
GRANT EXECUTE ON FUNCTION lastmile_find_account(text), lastmile_find_former_tenant(text)
    TO lastmile_app, lastmile_platform, lastmile_radius;
GRANT EXECUTE ON FUNCTION lastmile_is_foreign_account(text), lastmile_read_credentials(text, boolean),
    lastmile_forget_customer(text), lastmile_drop_device_call(text, text, text, text) TO lastmile_app;

-- The trigger writes the audit log; the clean-up deletes old entries.
GRANT SELECT ON audit_log TO lastmile_app;
GRANT SELECT, DELETE ON audit_log TO lastmile_platform;

GRANT SELECT ON acknowledgements TO lastmile_app;
GRANT SELECT, INSERT, DELETE ON acknowledgements TO lastmile_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON audit_findings TO lastmile_platform;

-- A tenant sees its API keys without their hashes.
GRANT SELECT (id, tenant_id, name, permissions, kind, created_at, expires_at, revoked_at, last_used_at)
    ON api_keys TO lastmile_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO lastmile_platform;
GRANT SELECT, INSERT ON idempotency_keys TO lastmile_app;
GRANT SELECT, INSERT, DELETE ON idempotency_keys TO lastmile_platform;
GRANT SELECT, INSERT, UPDATE ON rate_limits TO lastmile_app;
GRANT SELECT, DELETE ON rate_limits TO lastmile_platform;
GRANT SELECT ON cursor_key TO lastmile_platform;
-- A tenant sees its own controllers without their credentials.
GRANT SELECT (name, driver, kind, tenant_id, url, timeout_seconds, in_flight, olts, models, updated_at)
    ON device_controllers TO lastmile_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON device_controllers TO lastmile_platform;
GRANT SELECT, UPDATE ON device_rounds TO lastmile_platform;
-- A tenant sees its sources of webhooks without their secrets.
GRANT SELECT (name, tenant_id, mapping, created_at) ON hook_sources TO lastmile_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON hook_sources TO lastmile_platform;
GRANT SELECT, INSERT, UPDATE ON hook_events TO lastmile_app;
GRANT SELECT, DELETE ON hook_events TO lastmile_platform;

-- The triggers write the counts; folding them deletes and inserts.
GRANT SELECT ON delegation_counts TO lastmile_app;
GRANT SELECT, INSERT, DELETE ON delegation_counts TO lastmile_platform;
GRANT SELECT ON delegation_census TO lastmile_platform;
GRANT EXECUTE ON FUNCTION lastmile_recount(text) TO lastmile_platform;
GRANT SELECT, INSERT, DELETE ON metrics_snapshots TO lastmile_platform;

GRANT SELECT ON alembic_version TO lastmile_app, lastmile_platform;
