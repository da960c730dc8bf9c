"""When the database recorded a login and a session: order by one clock, not by those of NASes and RADIUS servers."""

from db.script import run_script

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# A column without a default, and then a default for new rows: no row of a large table is rewritten. FreeRADIUS's stock
# queries name their columns and do not notice.
UPGRADE = """
ALTER TABLE radacct ADD COLUMN recorded_at timestamptz;
ALTER TABLE radacct ALTER COLUMN recorded_at SET DEFAULT clock_timestamp();
ALTER TABLE radpostauth ADD COLUMN recorded_at timestamptz;
ALTER TABLE radpostauth ALTER COLUMN recorded_at SET DEFAULT clock_timestamp();
"""

DOWNGRADE = """
ALTER TABLE radacct DROP COLUMN recorded_at;
ALTER TABLE radpostauth DROP COLUMN recorded_at;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
