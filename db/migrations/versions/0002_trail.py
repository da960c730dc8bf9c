"""The trail: who did what to which record, written by the database itself and never changed."""

from alembic import op

from db.script import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TRAIL = """
CREATE TABLE trail (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT now(),
    tenant_id       text,
    actor           text NOT NULL,
    order_id        text,
    subscriber_ref  text,
    record          text NOT NULL,
    key             text NOT NULL,
    action          text NOT NULL CHECK (action IN ('created', 'changed', 'removed')),
    before          jsonb,
    after           jsonb
);
CREATE INDEX trail_by_subscriber ON trail (tenant_id, subscriber_ref, id);
CREATE INDEX trail_by_time ON trail (at);
ALTER TABLE trail ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON trail TO lastmile_app USING (tenant_id = nullif(current_setting('lastmile.tenant', true), ''));
CREATE POLICY platform ON trail TO lastmile_platform USING (true);
-- Append-only; what is older than the audit period is removed by the platform's clean-up.
GRANT SELECT, INSERT ON trail TO lastmile_app;
GRANT SELECT, INSERT, DELETE ON trail TO lastmile_platform;

-- A row's change, with the columns that changed. The trigger's arguments: the column that names the record, and
-- one that nobody may read here: only that it changed.
CREATE FUNCTION lastmile_trail() RETURNS trigger LANGUAGE plpgsql AS $$
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
    INSERT INTO trail (tenant_id, actor, order_id, subscriber_ref, record, key, action, before, after)
    VALUES (any_row ->> CASE TG_TABLE_NAME WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END,
            coalesce(nullif(current_setting('lastmile.actor', true), ''), session_user),
            nullif(current_setting('lastmile.order', true), ''),
            -- Where the change was made for no order, the row itself says whose it is.
            coalesce(nullif(current_setting('lastmile.subscriber', true), ''), any_row ->> 'subscriber_ref',
                     split_part(any_row ->> 'username', '@', 1),
                     CASE TG_TABLE_NAME WHEN 'subscribers' THEN any_row ->> 'ref' END,
                     (SELECT ref FROM subscribers WHERE id = (any_row ->> 'subscriber_id')::uuid)),
            TG_TABLE_NAME, any_row ->> TG_ARGV[0],
            CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed' ELSE 'removed' END,
            old_row, new_row);
    RETURN NULL;
END $$;
"""

WATCHED = {
    "tenants": "'id'",
    "customers": "'ref'",
    "subscribers": "'ref'",
    "network_profiles": "'id'",
    "billing_services": "'id'",
    "devices": "'kind'",
    "radcheck": "'username', 'value'",
    "radusergroup": "'username'",
    "radreply": "'username'",
    "nas": "'nasname', 'secret'",
}

# A pool's frontier moves with every batch of slots, which is nobody's doing.
TRIGGERS = (
    "\n".join(
        f"CREATE TRIGGER trail AFTER INSERT OR UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION lastmile_trail({arguments});"
        for table, arguments in WATCHED.items()
    )
    + """
CREATE TRIGGER trail AFTER INSERT OR DELETE OR UPDATE OF name, purpose, prefix, delegated_length, vrf, region, country
ON pools FOR EACH ROW EXECUTE FUNCTION lastmile_trail('name');
"""
)

# "Who had this prefix then?" is answered from the events.
EVENTS = """
CREATE INDEX delegation_events_by_prefix ON delegation_events USING gist (prefix inet_ops);
ALTER TABLE orders ADD COLUMN requested_by text;
"""


def upgrade() -> None:
    for script in (TRAIL, TRIGGERS, EVENTS):
        run_script(script)


def downgrade() -> None:
    op.execute("DROP TABLE trail")
    op.execute("DROP FUNCTION lastmile_trail CASCADE")
    op.execute("DROP INDEX delegation_events_by_prefix")
    op.execute("ALTER TABLE orders DROP COLUMN requested_by")
