"""What belongs to one line is on no other: its ONU, its VLANs on an OLT port, and a circuit id that is enforced.

Several `fttb` lines share an ONU, and no other line is on it then. Where older lines have the same VLANs or circuit id,
the first keeps them to itself, and the others are marked: they stay as they are, and no further line joins them.
"""

from db.script import run_script

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

UPGRADE = """
-- btree_gist is not everywhere; a range of one hash is how plain GiST compares for equality. An fttb line takes one
-- point of the second range, any other line takes all of it.
ALTER TABLE network_profiles DROP CONSTRAINT network_profiles_onu_serial;
ALTER TABLE network_profiles ADD CONSTRAINT network_profiles_onu_serial EXCLUDE USING gist (
    int8range(hashtextextended(tenant_id || '/' || onu_serial, 0),
              hashtextextended(tenant_id || '/' || onu_serial, 0), '[]') WITH &&,
    (CASE connection_type
     WHEN 'fttb' THEN int8range(uuid_hash_extended(subscriber_id, 0), uuid_hash_extended(subscriber_id, 0), '[]')
     ELSE int8range(NULL, NULL) END) WITH &&
) WHERE (onu_serial IS NOT NULL);
CREATE INDEX network_profiles_by_onu ON network_profiles (tenant_id, onu_serial);
CREATE INDEX devices_by_identity ON devices (tenant_id, kind, identity) WHERE wanted;

ALTER TABLE network_profiles
    ADD COLUMN shares_vlans boolean NOT NULL DEFAULT false,
    ADD COLUMN shares_circuit boolean NOT NULL DEFAULT false;
ALTER TABLE network_profiles DISABLE TRIGGER trail;
UPDATE network_profiles p SET shares_vlans = true FROM (
    SELECT id, row_number() OVER (PARTITION BY tenant_id, olt, pon_port, s_vlan, c_vlan ORDER BY created_at, id) AS nth
    FROM network_profiles WHERE num_nulls(olt, pon_port, s_vlan, c_vlan) = 0
) same WHERE p.id = same.id AND same.nth > 1;
UPDATE network_profiles p SET shares_circuit = true FROM (
    SELECT id, row_number() OVER (PARTITION BY tenant_id, circuit_id ORDER BY created_at, id) AS nth
    FROM network_profiles WHERE option82_policy = 'enforce' AND circuit_id IS NOT NULL
) same WHERE p.id = same.id AND same.nth > 1;
ALTER TABLE network_profiles ENABLE TRIGGER trail;
CREATE UNIQUE INDEX network_profiles_vlans ON network_profiles (tenant_id, olt, pon_port, s_vlan, c_vlan)
    WHERE NOT shares_vlans;
CREATE UNIQUE INDEX network_profiles_circuit ON network_profiles (tenant_id, circuit_id)
    WHERE option82_policy = 'enforce' AND NOT shares_circuit;
"""

DOWNGRADE = """
DROP INDEX network_profiles_circuit, network_profiles_vlans, network_profiles_by_onu, devices_by_identity;
ALTER TABLE network_profiles DROP COLUMN shares_vlans, DROP COLUMN shares_circuit;
ALTER TABLE network_profiles DROP CONSTRAINT network_profiles_onu_serial;
ALTER TABLE network_profiles ADD CONSTRAINT network_profiles_onu_serial UNIQUE (tenant_id, onu_serial);
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
