"""The index from a delegation to its slot leaves out the slots that are free.

With them it was a second way to all free slots, without their order, and PostgreSQL took it: an allocation read
every free slot, and every entry of one that was free once, until the next vacuum.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE slots DROP CONSTRAINT slots_delegation_id_key")
    op.execute("CREATE UNIQUE INDEX slots_by_delegation ON slots (delegation_id) WHERE delegation_id IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX slots_by_delegation")
    op.execute("ALTER TABLE slots ADD CONSTRAINT slots_delegation_id_key UNIQUE (delegation_id)")
