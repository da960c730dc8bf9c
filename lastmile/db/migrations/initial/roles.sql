-- Group roles. A login of Lastmile is a member of one or more of them, and owns no table.
--
--   lastmile_app       works for one tenant: the one that the setting `lastmile.tenant` names in its transaction
--   lastmile_platform  works for all tenants: maintenance, audit, metrics, set-up
--   lastmile_radius    FreeRADIUS
--   lastmile_kea       Kea, for one tenant, which is a setting of its login
--
-- Roles belong to the whole cluster. A role that another database's migration has made is kept as it is.
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['lastmile_app', 'lastmile_platform', 'lastmile_radius', 'lastmile_kea'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;
