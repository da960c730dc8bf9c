"""Nobody writes the trail by hand: its trigger acts as the owner of the table, and others may only read.

And an index by which what has been kept for long enough is found.
"""

from db.script import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Who may run the function may make a trigger of it on a table of their own, and forge entries that way.
UP = """
ALTER FUNCTION lastmile_trail() SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp;
REVOKE EXECUTE ON FUNCTION lastmile_trail() FROM PUBLIC;
REVOKE INSERT ON trail FROM lastmile_app, lastmile_platform;
CREATE INDEX delegation_events_ended ON delegation_events (at) WHERE to_state = 'revoked';
"""
DOWN = """
DROP INDEX delegation_events_ended;
ALTER FUNCTION lastmile_trail() SECURITY INVOKER RESET search_path;
GRANT EXECUTE ON FUNCTION lastmile_trail() TO PUBLIC;
GRANT INSERT ON trail TO lastmile_app, lastmile_platform;
"""


def upgrade() -> None:
    run_script(UP)


def downgrade() -> None:
    run_script(DOWN)
