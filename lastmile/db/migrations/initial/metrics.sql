-- Metrics: delegations counted as they change, and snapshots of all metrics for every worker to serve.

CREATE TABLE delegation_counts (
    tenant_id  text NOT NULL,
    pool_id    bigint NOT NULL,
    state      text NOT NULL,
    held       boolean NOT NULL,
    in_netbox  boolean NOT NULL,
    number     bigint NOT NULL
);
COMMENT ON TABLE delegation_counts IS
    'Changes of the number of delegations of each kind; their sum is the count. A statement that changes delegations '
    'adds its rows in its own transaction: rows are only inserted, so that no transaction waits for another. A '
    'snapshot of the metrics compacts the rows.';
COMMENT ON COLUMN delegation_counts.held IS 'The delegation has a prefix and has not released it.';
COMMENT ON COLUMN delegation_counts.in_netbox IS 'NetBox chose the prefix and has a record of it.';
COMMENT ON COLUMN delegation_counts.number IS 'The change of the number; negative: fewer.';

CREATE VIEW delegation_census WITH (security_invoker = true) AS
    SELECT tenant_id, pool_id, state, prefix IS NOT NULL AND released_at IS NULL AS held,
           netbox_id IS NOT NULL AS in_netbox, count(*) AS number
    FROM delegations GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW delegation_census IS 'What the sums of delegation_counts must be: the delegations counted one by one.';

-- SECURITY DEFINER, as the audit log's trigger: a tenant's changes are counted, and no tenant may write counts.
CREATE FUNCTION lastmile_count() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO delegation_counts
        SELECT tenant_id, pool_id, state, prefix IS NOT NULL AND released_at IS NULL, netbox_id IS NOT NULL, 1
        FROM new_rows;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO delegation_counts
        SELECT tenant_id, pool_id, state, prefix IS NOT NULL AND released_at IS NULL, netbox_id IS NOT NULL, 1
        FROM new_rows
        UNION ALL
        SELECT tenant_id, pool_id, state, prefix IS NOT NULL AND released_at IS NULL, netbox_id IS NOT NULL, -1
        FROM old_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO delegation_counts
        SELECT tenant_id, pool_id, state, prefix IS NOT NULL AND released_at IS NULL, netbox_id IS NOT NULL, -count(*)
        FROM old_rows GROUP BY 1, 2, 3, 4, 5;
    ELSE
        DELETE FROM delegation_counts;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastmile_count IS 'Add what a statement changed in delegations to delegation_counts.';

CREATE TRIGGER count_inserted AFTER INSERT ON delegations REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();
CREATE TRIGGER count_updated AFTER UPDATE ON delegations REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();
CREATE TRIGGER count_deleted AFTER DELETE ON delegations REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();
CREATE TRIGGER count_truncated AFTER TRUNCATE ON delegations FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();

CREATE FUNCTION lastmile_recount(tenant text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE wrong bigint;
BEGIN
    -- Two recounts at once would add the same correction twice.
    PERFORM pg_advisory_xact_lock(hashtextextended('lastmile/recount', 0));
    INSERT INTO delegation_counts
    SELECT tenant_id, pool_id, state, held, in_netbox, sum(number)
    FROM (
        SELECT * FROM delegation_census
        UNION ALL
        SELECT tenant_id, pool_id, state, held, in_netbox, -number FROM delegation_counts
    ) both_counts
    WHERE tenant IS NULL OR tenant_id = tenant
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(number) <> 0;
    GET DIAGNOSTICS wrong = ROW_COUNT;
    RETURN wrong;
END $$;
COMMENT ON FUNCTION lastmile_recount IS
    'Correct delegation_counts where delegations were changed without the triggers; returns how many kinds were '
    'wrong. Both counts are read in one statement: a change that is under way brings its own count along.';
REVOKE EXECUTE ON FUNCTION lastmile_count(), lastmile_recount(text) FROM PUBLIC;

CREATE TABLE metrics_snapshots (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at  timestamptz NOT NULL,
    samples   jsonb NOT NULL
);
COMMENT ON TABLE metrics_snapshots IS
    'Snapshots of the metrics: the newest one is what every worker serves. Written by the metrics schedule, which '
    'keeps the last few.';
COMMENT ON COLUMN metrics_snapshots.samples IS 'A list of [metric, {label: value}, number].';
