"""Since when NetBox has been compared with the database, and what the last look left open.

A pass asks for what has changed since the last one, and looks again at what that found and at what was in flight then.
The indexes let it go through NetBox and the database side by side, by NetBox's ids.
"""

from db.script import run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE netbox_passes (
    pool_id  bigint PRIMARY KEY REFERENCES pools (id) ON DELETE CASCADE,
    since    timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON netbox_passes TO lastmile_platform;

CREATE TABLE netbox_suspects (
    pool_id    bigint NOT NULL REFERENCES pools (id) ON DELETE CASCADE,
    netbox_id  bigint NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (pool_id, netbox_id)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON netbox_suspects TO lastmile_platform;

CREATE INDEX delegations_in_netbox_by_id ON delegations (pool_id, netbox_id)
    WHERE slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL;
CREATE INDEX delegations_in_netbox_by_change ON delegations (pool_id, greatest(state_since, released_at))
    WHERE slot IS NULL AND netbox_id IS NOT NULL;
CREATE INDEX netbox_removals_by_id ON netbox_removals (pool_id, netbox_id) WHERE prefix IS NOT NULL;
CREATE INDEX netbox_records_by_id ON netbox_records (pool_id, netbox_id) WHERE netbox_id IS NOT NULL;
"""

DOWNGRADE = """
DROP INDEX netbox_records_by_id;
DROP INDEX netbox_removals_by_id;
DROP INDEX delegations_in_netbox_by_change;
DROP INDEX delegations_in_netbox_by_id;
DROP TABLE netbox_suspects;
DROP TABLE netbox_passes;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
