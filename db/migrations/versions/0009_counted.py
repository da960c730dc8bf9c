"""Delegations are counted as they change, so that how many there are of each kind costs nothing to ask.

A statement that changes delegations adds what it changed to `delegation_counts`, in its own transaction: rows are
only inserted, so nobody waits for anybody. What they add up to is the count; whoever takes a snapshot of the figures
makes few rows of many.

Orders that are open are found by index. A snapshot of all figures is kept for every worker to show.
"""

from db.script import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KIND = "tenant_id, pool_id, state, held, in_netbox"
KIND_OF = "tenant_id, pool_id, state, prefix IS NOT NULL AND released_at IS NULL, netbox_id IS NOT NULL"

# The trigger acts as the owner, as the trail's does: what a tenant does is counted, and no tenant writes counts.
UPGRADE = f"""
CREATE TABLE delegation_counts (
    tenant_id  text NOT NULL,
    pool_id    bigint NOT NULL,
    state      text NOT NULL,
    held       boolean NOT NULL,
    in_netbox  boolean NOT NULL,
    number     bigint NOT NULL
);
ALTER TABLE delegation_counts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON delegation_counts TO lastmile_app
    USING (tenant_id = nullif(current_setting('lastmile.tenant', true), ''));
CREATE POLICY platform ON delegation_counts TO lastmile_platform USING (true);
GRANT SELECT ON delegation_counts TO lastmile_app;
GRANT SELECT, INSERT, DELETE ON delegation_counts TO lastmile_platform;

-- The same, counted one by one.
CREATE VIEW delegation_census WITH (security_invoker = true) AS
    SELECT tenant_id, pool_id, state, prefix IS NOT NULL AND released_at IS NULL AS held,
           netbox_id IS NOT NULL AS in_netbox, count(*) AS number
    FROM delegations GROUP BY 1, 2, 3, 4, 5;
GRANT SELECT ON delegation_census TO lastmile_platform;

CREATE FUNCTION lastmile_count() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO delegation_counts SELECT {KIND_OF}, 1 FROM new_rows;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO delegation_counts
        SELECT {KIND_OF}, 1 FROM new_rows UNION ALL SELECT {KIND_OF}, -1 FROM old_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO delegation_counts SELECT {KIND_OF}, -count(*) FROM old_rows GROUP BY 1, 2, 3, 4, 5;
    ELSE
        DELETE FROM delegation_counts;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON delegations REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();
CREATE TRIGGER count_updated AFTER UPDATE ON delegations REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();
CREATE TRIGGER count_deleted AFTER DELETE ON delegations REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();
CREATE TRIGGER count_truncated AFTER TRUNCATE ON delegations FOR EACH STATEMENT EXECUTE FUNCTION lastmile_count();

-- Where somebody has gone past the triggers: add what is missing, by one view of both; returns how many kinds were
-- wrong. A change that is under way brings its own count along. One after the other, or it would be added twice.
CREATE FUNCTION lastmile_recount(tenant text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE wrong bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('lastmile/recount', 0));
    INSERT INTO delegation_counts
    SELECT {KIND}, sum(number)
    FROM (SELECT * FROM delegation_census UNION ALL SELECT {KIND}, -number FROM delegation_counts) both_counts
    WHERE tenant IS NULL OR tenant_id = tenant
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(number) <> 0;
    GET DIAGNOSTICS wrong = ROW_COUNT;
    RETURN wrong;
END $$;
REVOKE EXECUTE ON FUNCTION lastmile_count(), lastmile_recount(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lastmile_recount(text) TO lastmile_platform;
SELECT lastmile_recount();

CREATE INDEX orders_open ON orders (tenant_id, created_at) WHERE status IN ('running', 'rolling_back');

CREATE TABLE snapshots (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at  timestamptz NOT NULL,
    samples   jsonb NOT NULL
);
GRANT SELECT, INSERT, DELETE ON snapshots TO lastmile_platform;
"""

DOWNGRADE = """
DROP TABLE snapshots;
DROP INDEX orders_open;
DROP FUNCTION lastmile_recount;
DROP TRIGGER count_inserted ON delegations;
DROP TRIGGER count_updated ON delegations;
DROP TRIGGER count_deleted ON delegations;
DROP TRIGGER count_truncated ON delegations;
DROP FUNCTION lastmile_count;
DROP VIEW delegation_census;
DROP TABLE delegation_counts;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
