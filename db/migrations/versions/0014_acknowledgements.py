"""An operator can acknowledge a finding of the audit: with who and why, and for that finding alone."""

from db.script import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE acknowledgements (
    finding          text PRIMARY KEY,
    invariant        text NOT NULL,
    tenant_id        text REFERENCES tenants ON DELETE CASCADE,
    subject          text NOT NULL,
    key              text NOT NULL,
    subscriber_ref   text,
    acknowledged_by  text NOT NULL,
    why              text NOT NULL,
    at               timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX acknowledgements_by_key ON acknowledgements (tenant_id, key);
ALTER TABLE acknowledgements ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON acknowledgements TO lastmile_app
    USING (tenant_id = nullif(current_setting('lastmile.tenant', true), ''));
CREATE POLICY platform ON acknowledgements TO lastmile_platform USING (true);
GRANT SELECT ON acknowledgements TO lastmile_app;
GRANT SELECT, INSERT, DELETE ON acknowledgements TO lastmile_platform;
CREATE TRIGGER trail AFTER INSERT OR UPDATE OR DELETE ON acknowledgements
FOR EACH ROW EXECUTE FUNCTION lastmile_trail('subject');

ALTER TABLE audit_findings ADD COLUMN acknowledged bigint NOT NULL DEFAULT 0;
"""

DOWNGRADE = """
ALTER TABLE audit_findings DROP COLUMN acknowledged;
DROP TABLE acknowledgements;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
