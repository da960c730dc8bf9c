-- Everything that the other files made, with all data; but not the roles, which belong to the cluster.
DROP SCHEMA kea CASCADE;
DROP FUNCTION lastmile_unconfirmed_quarantine, lastmile_session_may_use, lastmile_has_unaccounted_login;
DROP VIEW startable_orders, delegation_reply_items, delegation_revocations, delegation_census, block_maintenance, pool_blocks, pool_bindings;
-- Those with a row of a table as their argument.
DROP FUNCTION
    lastmile_due_again, lastmile_pool_is_candidate, lastmile_pool_serves, lastmile_pool_is_changing,
    lastmile_pool_can_grow, lastmile_session_recorded, lastmile_login_recorded, lastmile_session_may_be_open;
DROP TABLE
    tenants, orders, accepted_orders,
    customers, subscribers, network_profiles, devices, device_controllers, device_rounds, pending_device_calls, billing_services, billing_events,
    suspensions, previous_values,
    pools, slots, delegations, delegation_events,
    given_passwords, former_usernames, radcheck, radreply, radusergroup, radgroupcheck, radgroupreply, radacct, radpostauth, nas,
    nasreload, radius_templates, radius_choices,
    netbox_blocks, netbox_records, netbox_removals, netbox_foreign_prefixes, netbox_comparisons,
    netbox_pending_inspections, netbox_failed_repairs,
    audit_findings, acknowledgements, audit_log,
    api_keys, rate_limits, idempotency_keys, cursor_key, hook_sources, hook_events,
    delegation_counts, metrics_snapshots;
DROP FUNCTION
    lastmile_nth_prefix, lastmile_slot, lastmile_exclusions_lock, lastmile_block_key, lastmile_event_vrf,
    lastmile_order_unfinished, lastmile_order_completed, lastmile_order_rolled_back, lastmile_is_ahead,
    lastmile_holder, lastmile_cpe_identity, lastmile_percent_encode,
    lastmile_radius_username, lastmile_parse_username, lastmile_is_account, lastmile_set_radius_tenant,
    lastmile_set_account, lastmile_find_account, lastmile_find_former_tenant, lastmile_is_foreign_account,
    lastmile_account_named, lastmile_set_login_name, lastmile_reply_attribute,
    lastmile_mark_record_due, lastmile_audit_log, lastmile_read_credentials, lastmile_forget_customer,
    lastmile_drop_device_call,
    lastmile_without_personal_data, lastmile_count, lastmile_recount;
