"""A pool that people share in NetBox is full when NetBox says so, however many prefixes it could hold.

`netbox_full_since` is when NetBox first had no further block, or prefix, for it; NULL as soon as one was got.
"""

from db.script import run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# A tenant's orders hear it from NetBox.
UPGRADE = """
ALTER TABLE pools ADD COLUMN netbox_full_since timestamptz;
GRANT UPDATE (netbox_full_since) ON pools TO lastmile_app;
"""

DOWNGRADE = "ALTER TABLE pools DROP COLUMN netbox_full_since;"


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
