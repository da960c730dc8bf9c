"""What maintenance looks for is found by index, and what the audit found is kept for the metrics.

Delegations in a passing state are few, and so are those that ended long ago; neither may cost a look at all of them.
"""

from db.script import run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE INDEX delegations_passing ON delegations (state_since, id)
    WHERE released_at IS NULL AND state IN ('pending', 'allocated', 'revoking', 'revoked', 'failed');
CREATE INDEX delegations_ended ON delegations (released_at, id) WHERE released_at IS NOT NULL;

CREATE TABLE audit_findings (
    invariant   text PRIMARY KEY,
    violations  bigint NOT NULL,
    mended      bigint NOT NULL,
    checked_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON audit_findings TO lastmile_platform;
"""

DOWNGRADE = """
DROP TABLE audit_findings;
DROP INDEX delegations_ended;
DROP INDEX delegations_passing;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
