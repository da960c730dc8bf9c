"""A pool can be kept in NetBox: its prefixes are chosen there, and have no slot here.

A delegation is written before NetBox is asked, so it has no prefix while it is pending, nor where it failed and was
taken back. That a prefix has one holder, which for others their slot says, is said by an index of its own.

`netbox_removals` remembers what may not be in NetBox any more once it is due: what was released and has rested, and
what an allocation that was taken back may have left, since NetBox goes on with a request that its client gave up on.
"""

from db.script import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE pools
    ADD COLUMN netbox_mode text CHECK (netbox_mode IN ('direct')),
    ADD COLUMN netbox_prefix_id bigint,
    ADD COLUMN netbox_vrf_id bigint,
    ADD COLUMN netbox_release text CHECK (netbox_release IN ('deprecate', 'delete')),
    ADD CONSTRAINT pools_netbox CHECK (num_nulls(netbox_mode, netbox_prefix_id, netbox_release) IN (0, 3)
                                       AND (netbox_vrf_id IS NULL OR netbox_mode IS NOT NULL));

ALTER TABLE delegations
    ALTER COLUMN slot DROP NOT NULL,
    ALTER COLUMN prefix DROP NOT NULL,
    ADD COLUMN netbox_id bigint,
    ADD CONSTRAINT delegations_given CHECK (prefix IS NOT NULL
                                            OR state IN ('pending', 'failed', 'revoking', 'revoked')),
    ADD CONSTRAINT delegations_in_netbox CHECK (slot IS NULL OR netbox_id IS NULL);
CREATE UNIQUE INDEX delegations_prefix ON delegations (pool_id, prefix)
    WHERE slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL;
ALTER TABLE delegation_events ALTER COLUMN prefix DROP NOT NULL;

CREATE TABLE netbox_removals (
    tenant_id       text NOT NULL REFERENCES tenants (id),
    allocation_key  text NOT NULL,
    pool_id         bigint NOT NULL REFERENCES pools (id),
    prefix          cidr,
    netbox_id       bigint,
    due_at          timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, allocation_key, pool_id)
);
CREATE INDEX netbox_removals_due ON netbox_removals (due_at);
ALTER TABLE netbox_removals ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON netbox_removals TO lastmile_app
    USING (tenant_id = nullif(current_setting('lastmile.tenant', true), ''));
CREATE POLICY platform ON netbox_removals TO lastmile_platform USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON netbox_removals TO lastmile_app, lastmile_platform;

DROP TRIGGER trail ON pools;
CREATE TRIGGER trail AFTER INSERT OR DELETE OR UPDATE OF name, purpose, prefix, delegated_length, vrf, region, country,
    netbox_mode, netbox_prefix_id, netbox_vrf_id, netbox_release
ON pools FOR EACH ROW EXECUTE FUNCTION lastmile_trail('name');
"""

# Refused by the database while there are delegations that only this schema can hold.
DOWNGRADE = """
DROP TRIGGER trail ON pools;
CREATE TRIGGER trail AFTER INSERT OR DELETE OR UPDATE OF name, purpose, prefix, delegated_length, vrf, region, country
ON pools FOR EACH ROW EXECUTE FUNCTION lastmile_trail('name');
DROP TABLE netbox_removals;
ALTER TABLE delegation_events ALTER COLUMN prefix SET NOT NULL;
DROP INDEX delegations_prefix;
ALTER TABLE delegations
    DROP CONSTRAINT delegations_given,
    DROP CONSTRAINT delegations_in_netbox,
    DROP COLUMN netbox_id,
    ALTER COLUMN slot SET NOT NULL,
    ALTER COLUMN prefix SET NOT NULL;
ALTER TABLE pools
    DROP COLUMN netbox_mode,
    DROP COLUMN netbox_prefix_id,
    DROP COLUMN netbox_vrf_id,
    DROP COLUMN netbox_release;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
