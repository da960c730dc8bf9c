"""The user names that accounts had before: sessions go on under a former name until they end.

`lastmile.radius.sessions` finds the sessions of an account under its present name and its former names. A former name
can become the name of another line, so only logins until then are the account's: at most 5 minutes after the change.
"""

from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement

__all__ = ["record"]

# The names that the account had earlier follow it to its new name. A name that the account has again is no former one.
_RECORD = DirectStatement(
    """
    WITH earlier AS (DELETE FROM former_usernames WHERE username = :before RETURNING former, logins_until)
    INSERT INTO former_usernames (tenant_id, username, former, logins_until)
    SELECT :tenant, :after, former, max(logins_until)
    FROM (SELECT * FROM earlier UNION ALL SELECT :before, clock_timestamp() + interval '5 minutes') names
    WHERE former <> :after GROUP BY former
    ON CONFLICT (former, username, tenant_id)
    DO UPDATE SET logins_until = greatest(former_usernames.logins_until, excluded.logins_until)
    """
)


async def record(connection: TenantConnection, tenant: str, before: str, after: str) -> None:
    """Record in the transaction of the change that the account with the name `before` is named `after`."""
    await _RECORD.count(connection, {"tenant": tenant, "before": before, "after": after})
