"""An order's row says that the order has taken over a lost run, and that an operator skipped an undo.

`taken_over` holds from the moment that the order is opened, whatever becomes of the reply to that.
"""

from db.script import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE orders ADD COLUMN taken_over boolean NOT NULL DEFAULT false;
ALTER TABLE orders DROP CONSTRAINT orders_status_check;
ALTER TABLE orders ADD CONSTRAINT orders_status_check CHECK (status IN (
    'running', 'rolling_back', 'completed', 'degraded', 'rolled_back', 'partly_rolled_back', 'abandoned',
    'superseded'));
"""

DOWNGRADE = """
UPDATE orders SET status = 'rolled_back' WHERE status = 'partly_rolled_back';
ALTER TABLE orders DROP CONSTRAINT orders_status_check;
ALTER TABLE orders ADD CONSTRAINT orders_status_check CHECK (status IN (
    'running', 'rolling_back', 'completed', 'degraded', 'rolled_back', 'abandoned', 'superseded'));
ALTER TABLE orders DROP COLUMN taken_over;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
