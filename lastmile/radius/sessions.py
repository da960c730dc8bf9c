"""A user's open sessions, read from accounting (`radacct`) and the log of logins (`radpostauth`).

No query compares times of two clocks: accounting has the NAS's times, a login has the RADIUS server's time, and both
clocks can be hours wrong. The database sets `recorded_at` when it inserts the row. A login is always recorded before
its session: FreeRADIUS records an Access-Accept before it sends it, and the NAS reports the session after that.
"""

from datetime import datetime, timedelta

from sqlalchemy import text

from lastmile.db import TenantConnection
from lastmile.radius.dynauth import Nas, Session
from lastmile.radius.escaping import unescaped

__all__ = ["MAY_BE_OPEN", "SESSION_RECORDED", "find_open_sessions", "has_unaccounted_login", "unaccounted_condition"]

# A row older than the column `recorded_at` has only the time of its own clock. Accounting has whole seconds.
SESSION_RECORDED = "coalesce(recorded_at, acctstarttime + interval '10 s', '-infinity')"
_LOGIN_RECORDED = "coalesce(recorded_at, authdate)"

# A start after the stop means that the NAS has reused the Acct-Session-Id: FreeRADIUS has one row for both sessions.
MAY_BE_OPEN = "(acctstoptime IS NULL OR acctstarttime > acctstoptime)"

_UNTIL = "coalesce(CAST(:until AS timestamptz), 'infinity')"

_SAMPLE = 1000
"""The number of sessions of a NAS that are read to decide whether the NAS reports addresses."""

_OPEN_SESSIONS = text(
    f"""
    SELECT mine.*, nas.shortname, nas.secret, nas.coa_port, coalesce(nas.coa_address, nas_address) AS coa_address FROM (
        SELECT radacctid, acctsessionid, host(nasipaddress) AS nas_address, host(framedipaddress) AS framed_ip,
               callingstationid,
               coalesce({SESSION_RECORDED} > now() - CAST(:longest AS interval), true)
               AND (framedipaddress IS NOT NULL OR coalesce((
                   SELECT bool_or(framedipaddress IS NOT NULL) FROM (
                       SELECT framedipaddress FROM radacct other
                       WHERE other.nasipaddress = radacct.nasipaddress AND other.acctstoptime IS NULL LIMIT {_SAMPLE}
                   ) others), false)) AS address_in_doubt
        FROM radacct
        WHERE username = :user AND {MAY_BE_OPEN} AND {SESSION_RECORDED} <= {_UNTIL}
    ) mine LEFT JOIN nas ON nas.nasname = mine.nas_address
    ORDER BY radacctid
    """
)


def unaccounted_condition(user: str, since: str, until: str) -> str:
    """Return the SQL condition that one of the user's logins between two times has no session in `radacct`.

    Each session belongs to one login that was recorded before it. So from each login on, there must be at least as
    many sessions as logins. `user`, `since` and `until` are SQL expressions.
    """
    return f"""(
        SELECT coalesce(bool_or(missing > 0), false) FROM (
            SELECT sum(step) OVER (ORDER BY at DESC, step DESC ROWS UNBOUNDED PRECEDING) AS missing FROM (
                SELECT 1 AS step, {_LOGIN_RECORDED} AS at FROM radpostauth
                WHERE username = {user} AND reply = 'Access-Accept' AND {_LOGIN_RECORDED} > {since}
                  AND {_LOGIN_RECORDED} <= {until}
                UNION ALL
                SELECT -1, {SESSION_RECORDED} FROM radacct
                WHERE username = {user} AND {SESSION_RECORDED} > {since} AND {SESSION_RECORDED} <= {until}
            ) recorded
        ) counted
    )"""


_UNACCOUNTED_LOGIN = text(
    f"SELECT {unaccounted_condition('CAST(:user AS text)', 'now() - CAST(:longest AS interval)', _UNTIL)}"
)


async def find_open_sessions(
    connection: TenantConnection,
    user: str,
    *,
    longest: timedelta | None = None,
    until: datetime | None = None,
) -> list[tuple[Session, Nas | None]]:
    """Return the user's sessions that may be open, oldest first, each with its NAS.

    The NAS is None if the table `nas` does not have it.

    Args:
        longest: the Session-Timeout. A session that was recorded earlier has ended: a 503 from its NAS is
            conclusive.
        until: return only sessions that were recorded until this time.
    """
    rows = await connection.execute(_OPEN_SESSIONS, {"user": user, "longest": longest, "until": until})
    return [
        (
            Session(
                user,
                unescaped(row.acctsessionid),
                row.nas_address,
                row.framed_ip,
                unescaped(row.callingstationid) if row.callingstationid else None,
                row.address_in_doubt,
            ),
            Nas(row.shortname, row.coa_address, row.coa_port, row.secret.encode()) if row.secret else None,
        )
        for row in rows
    ]


async def has_unaccounted_login(
    connection: TenantConnection, user: str, longest: timedelta, until: datetime | None = None
) -> bool:
    """Return whether the user may have a session that `radacct` does not contain, from a login until `until`.

    `find_open_sessions` does not find such a session. It exists between the Access-Accept and the NAS's
    Accounting-Start, which a BNG delays by up to 300 seconds, or because the NAS sends no accounting.
    """
    return bool(await connection.scalar(_UNACCOUNTED_LOGIN, {"user": user, "longest": longest, "until": until}))
