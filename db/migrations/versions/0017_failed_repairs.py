"""Repairs in NetBox that could not be done, and why: a comparison does not promise them again."""

from db.script import run_script

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE netbox_failed_repairs (
    pool_id   bigint NOT NULL REFERENCES pools (id) ON DELETE CASCADE,
    about     text NOT NULL,
    problem   text NOT NULL,
    tried_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pool_id, about)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON netbox_failed_repairs TO lastmile_platform;
"""

DOWNGRADE = "DROP TABLE netbox_failed_repairs;"


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
