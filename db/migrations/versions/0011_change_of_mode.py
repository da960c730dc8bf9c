"""A pool's mode can change.

While blocks are taken around prefixes that are held already, their prefixes are known before NetBox has their records.
And for the moments in which a pool that NetBox chooses from changes hands, no order begins to ask for it: until
`netbox_closed_until`, so that whoever closes it can be lost.
"""

from db.script import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE pools ADD COLUMN netbox_closed_until timestamptz;

ALTER TABLE netbox_blocks
    DROP CONSTRAINT netbox_blocks_check,
    ADD CONSTRAINT netbox_blocks_place CHECK (num_nulls(prefix, first_slot, end_slot) IN (0, 3)
        AND (state = 'taking' OR prefix IS NOT NULL) AND (netbox_id IS NULL) = (state = 'taking'));

-- The inverse of lastmile_nth_prefix, up to /64.
CREATE FUNCTION lastmile_slot(pool cidr, length integer, prefix cidr) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (('x' || encode(substring(inet_send(prefix) FROM 5 FOR 8), 'hex'))::bit(64)::bigint
            - ('x' || encode(substring(inet_send(pool) FROM 5 FOR 8), 'hex'))::bit(64)::bigint) >> (64 - length)
$$;
"""

# Refused by the database while a block is being taken whose place is known.
DOWNGRADE = """
DROP FUNCTION lastmile_slot;
ALTER TABLE netbox_blocks
    DROP CONSTRAINT netbox_blocks_place,
    ADD CONSTRAINT netbox_blocks_check CHECK (
        num_nulls(prefix, netbox_id, first_slot, end_slot) = CASE state WHEN 'taking' THEN 4 ELSE 0 END);
ALTER TABLE pools DROP COLUMN netbox_closed_until;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
