"""Operators change pools and NASes that are in use.

Parts of a pool can be excluded from allocation, and a pool can be closed to new allocations. A NAS can take Disconnect
and CoA requests at another address than the one that it sends from. What the audit repaired has the glossary's name.
"""

from db.script import run_script

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

WATCHED = "name, purpose, prefix, delegated_length, vrf, region, country, netbox_mode, netbox_prefix_id, netbox_vrf_id"
WATCHED += ", netbox_release, netbox_record, netbox_block_length"

TRAIL = """
DROP TRIGGER trail ON pools;
CREATE TRIGGER trail AFTER INSERT OR DELETE OR UPDATE OF {}
ON pools FOR EACH ROW EXECUTE FUNCTION lastmile_trail('name');
"""

UPGRADE = f"""
ALTER TABLE pools
    ADD COLUMN excluded int8multirange NOT NULL DEFAULT '{{}}',
    ADD COLUMN closed_at timestamptz,
    ADD CONSTRAINT pools_excluded CHECK (netbox_mode IS NULL OR excluded = '{{}}');
{TRAIL.format(f"{WATCHED}, excluded, closed_at")}
ALTER TABLE nas ADD COLUMN coa_address text;
ALTER TABLE audit_findings RENAME COLUMN mended TO repaired;
"""

DOWNGRADE = f"""
{TRAIL.format(WATCHED)}
ALTER TABLE pools DROP COLUMN excluded, DROP COLUMN closed_at;
ALTER TABLE nas DROP COLUMN coa_address;
ALTER TABLE audit_findings RENAME COLUMN repaired TO mended;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
