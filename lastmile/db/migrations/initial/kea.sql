-- Kea (DHCPv6) reads its reservations here, as FreeRADIUS reads its accounts: docs/operations/controllers/kea.md.
--
-- The login of a Kea has two schemas in its search_path: `kea`, and then that of the tables that `kea-admin` has made.
-- So Kea finds the views `hosts` and `ipv6_reservations` in place of its own tables of that name. The columns are those
-- of the schema 13.0 of Kea 2.2. The setting `lastmile.tenant` of the login names the tenant, and `lastmile.vrf` the VRF.

CREATE SCHEMA kea;
COMMENT ON SCHEMA kea IS 'Reservations for Kea, read by the members of lastmile_kea.';

CREATE FUNCTION kea.duid_octets(written text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT decode(replace(written, ':', ''), 'hex')
$$;
COMMENT ON FUNCTION kea.duid_octets IS 'The octets of network_profiles.duid.';

CREATE INDEX delegations_in_kea ON delegations (host(prefix))
    WHERE purpose = 'ipv6_pd' AND state = 'active' AND replaced_at IS NULL;
COMMENT ON INDEX delegations_in_kea IS 'Kea: whether a prefix is reserved, and for which line.';
CREATE INDEX network_profiles_by_duid ON network_profiles (kea.duid_octets(duid)) WHERE duid IS NOT NULL;
COMMENT ON INDEX network_profiles_by_duid IS 'Kea: the reservation of a DUID.';

-- The view has the rights of its owner, since the login of Kea may read no table. It has the VRF in a sub-select, so
-- that FOR SHARE does not lock the pool.
CREATE VIEW kea.reservations AS
    SELECT d.id, kea.duid_octets(n.duid) AS duid, d.prefix
    FROM delegations d
    JOIN subscribers s ON s.tenant_id = d.tenant_id AND s.ref = d.subscriber_ref AND s.archived_at IS NULL
    JOIN network_profiles n ON n.subscriber_id = s.id
    WHERE d.purpose = 'ipv6_pd' AND d.state = 'active' AND d.replaced_at IS NULL AND n.duid IS NOT NULL
      AND d.tenant_id = current_setting('lastmile.tenant', true)
      AND (SELECT vrf FROM pools WHERE id = d.pool_id) = coalesce(current_setting('lastmile.vrf', true), '');
COMMENT ON VIEW kea.reservations IS
    'The prefixes that Kea may lease: those in service, of lines with a DUID, in one VRF of one tenant. A DUID has one.';

CREATE VIEW kea.hosts AS
    SELECT id AS host_id, duid AS dhcp_identifier, 1::smallint AS dhcp_identifier_type,
           NULL::bigint AS dhcp4_subnet_id, 0::bigint AS dhcp6_subnet_id, NULL::bigint AS ipv4_address,
           NULL::varchar AS hostname, NULL::varchar AS dhcp4_client_classes, NULL::varchar AS dhcp6_client_classes,
           NULL::text AS user_context, NULL::bigint AS dhcp4_next_server, NULL::varchar AS dhcp4_server_hostname,
           NULL::varchar AS dhcp4_boot_file_name, NULL::varchar AS auth_key
    FROM kea.reservations;
COMMENT ON VIEW kea.hosts IS
    'The hosts of Kea. The identifier type 1 is a DUID; the subnet 0 makes a reservation global.';

CREATE VIEW kea.ipv6_reservations AS
    SELECT id AS reservation_id, host(prefix)::varchar AS address, masklen(prefix)::smallint AS prefix_len,
           2::smallint AS type, NULL::bigint AS dhcp6_iaid, id AS host_id
    FROM kea.reservations;
COMMENT ON VIEW kea.ipv6_reservations IS 'The prefixes of kea.hosts. The type 2 is IA_PD.';

-- Kea keeps a lease at least until its CPE renews or the lease expires, and gives its prefix to no other CPE meanwhile.
-- So the end of a reservation ends the lease.

CREATE FUNCTION kea.check_lease() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- The lock lets an order that ends the reservation wait, and see the lease.
    PERFORM 1 FROM kea.reservations
    WHERE duid = NEW.duid AND prefix = set_masklen(NEW.address::inet, NEW.prefix_len)::cidr
    FOR SHARE;
    IF NOT FOUND THEN
        -- Not unique_violation, at which Kea 2.2 ends with a failed assertion.
        RAISE check_violation USING MESSAGE = format(
            'Lastmile has no active delegation of %s/%s for this DUID.', NEW.address, NEW.prefix_len);
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION kea.check_lease IS
    'Refuse the lease of a prefix whose reservation ended after Kea read it. Kea then answers NoPrefixAvail.';

CREATE FUNCTION kea.end_leases() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    leases CONSTANT text := TG_ARGV[0];
    holder bytea;
BEGIN
    IF to_regclass(format('%I.lease6', leases)) IS NULL THEN
        RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = 'delegations' THEN
        holder := (SELECT kea.duid_octets(n.duid) FROM network_profiles n JOIN subscribers s ON s.id = n.subscriber_id
                   WHERE s.tenant_id = OLD.tenant_id AND s.ref = OLD.subscriber_ref AND s.archived_at IS NULL);
    ELSIF TG_OP = 'DELETE' OR OLD.duid IS DISTINCT FROM NEW.duid THEN
        holder := kea.duid_octets(OLD.duid);
    END IF;
    IF holder IS NOT NULL THEN
        -- Kea's own triggers, which count leases, need its schema. The function's end restores the search_path.
        PERFORM set_config('search_path', format('%I, pg_temp', leases), true);
        IF TG_TABLE_NAME = 'delegations' THEN
            DELETE FROM lease6 WHERE lease_type = 2 AND duid = holder AND address::inet = host(OLD.prefix)::inet;
        ELSE
            DELETE FROM lease6 WHERE lease_type = 2 AND duid = holder;
        END IF;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION kea.end_leases IS 'Delete the leases of a line whose reservation ends or gets another DUID.';

CREATE FUNCTION kea.attach(leases text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER lastmile BEFORE INSERT ON %I.lease6 FOR EACH ROW WHEN (NEW.lease_type = 2) '
                   'EXECUTE FUNCTION kea.check_lease()', leases);
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE OF state, replaced_at ON delegations FOR EACH ROW '
                   'WHEN (OLD.purpose = ''ipv6_pd'' AND OLD.state = ''active'' AND OLD.replaced_at IS NULL '
                   'AND (NEW.state <> ''active'' OR NEW.replaced_at IS NOT NULL)) '
                   'EXECUTE FUNCTION kea.end_leases(%L)', 'kea_' || leases, leases);
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE OF duid OR DELETE ON network_profiles FOR EACH ROW '
                   'WHEN (OLD.duid IS NOT NULL) EXECUTE FUNCTION kea.end_leases(%L)', 'kea_' || leases, leases);
END $$;
COMMENT ON FUNCTION kea.attach IS
    'Bind the leases of a Kea, in this schema, to its reservations. The owner of the database calls it once.';
REVOKE EXECUTE ON FUNCTION kea.attach(text), kea.check_lease(), kea.end_leases() FROM PUBLIC;

GRANT USAGE ON SCHEMA kea TO lastmile_kea;
GRANT SELECT ON kea.hosts, kea.ipv6_reservations TO lastmile_kea;
