"""A delegation's events name its VRF, since they outlive the delegation.

NULL is an event from before this migration whose delegation is gone, where pools of several VRFs contain its prefix.
"""

from db.script import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE delegation_events ADD COLUMN vrf text;

UPDATE delegation_events e SET vrf = p.vrf
FROM delegations d JOIN pools p ON p.id = d.pool_id WHERE d.id = e.delegation_id;

UPDATE delegation_events e SET vrf = CASE array_length(found.vrfs, 1) WHEN 1 THEN found.vrfs[1] END
FROM (SELECT DISTINCT prefix, ARRAY(SELECT DISTINCT vrf FROM pools WHERE pools.prefix >>= gone.prefix) AS vrfs
      FROM delegation_events gone WHERE gone.vrf IS NULL) found
WHERE e.vrf IS NULL AND e.prefix = found.prefix;

CREATE FUNCTION lastmile_event_vrf() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.vrf := (SELECT p.vrf FROM delegations d JOIN pools p ON p.id = d.pool_id WHERE d.id = NEW.delegation_id);
    RETURN NEW;
END $$;

CREATE TRIGGER vrf BEFORE INSERT ON delegation_events FOR EACH ROW EXECUTE FUNCTION lastmile_event_vrf();
"""

DOWNGRADE = """
DROP TRIGGER vrf ON delegation_events;
DROP FUNCTION lastmile_event_vrf();
ALTER TABLE delegation_events DROP COLUMN vrf;
"""


def upgrade() -> None:
    run_script(UPGRADE)


def downgrade() -> None:
    run_script(DOWNGRADE)
