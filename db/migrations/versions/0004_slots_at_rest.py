"""An allocation in a big pool costs what it does in an empty one.

A slot names its last holder only while nobody holds it, so that the way to "what this subscriber had before" is not
also one through all free slots: PostgreSQL believed those to be none in a full pool, and took it.

Free slots are taken in their index's order, so the entries of those taken since the last vacuum lie before the first
free one, and every allocation reads past them. Autovacuum waits for a fifth of the table, which is no measure here,
and leaves the indexes alone where few of the table's pages have changed.

Delegations are found by subscriber, then tenant: with the tenant first, PostgreSQL used that index for an allocation
key, too, until the table was analysed, and read all of the tenant's delegations.
"""

from db.script import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = """
DROP INDEX slots_by_last_holder;
UPDATE slots SET last_holder = NULL WHERE delegation_id IS NOT NULL AND last_holder IS NOT NULL;
ALTER TABLE slots ADD CONSTRAINT slots_last_holder CHECK (delegation_id IS NULL OR last_holder IS NULL);
CREATE INDEX slots_by_last_holder ON slots (last_holder, pool_id) WHERE last_holder IS NOT NULL;
ALTER TABLE slots SET (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0.001,
                       vacuum_index_cleanup = on);
DROP INDEX delegations_by_subscriber;
CREATE INDEX delegations_by_subscriber ON delegations (subscriber_ref, tenant_id);
"""

DOWNGRADE = """
DROP INDEX slots_by_last_holder;
ALTER TABLE slots DROP CONSTRAINT slots_last_holder;
UPDATE slots s SET last_holder = d.tenant_id || '/' || d.subscriber_ref || '/' || d.purpose
FROM delegations d WHERE d.id = s.delegation_id;
CREATE INDEX slots_by_last_holder ON slots (last_holder, pool_id)
    WHERE delegation_id IS NULL AND last_holder IS NOT NULL;
ALTER TABLE slots RESET (autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor, vacuum_index_cleanup);
DROP INDEX delegations_by_subscriber;
CREATE INDEX delegations_by_subscriber ON delegations (tenant_id, subscriber_ref);
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
