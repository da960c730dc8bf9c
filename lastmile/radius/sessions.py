"""What accounting and the log of logins say about a user's sessions.

Nothing here compares times of two clocks. Accounting's times are the NAS's, a login's are the RADIUS server's, and both
can be hours off. `recorded_at` is when the database inserted the row. FreeRADIUS records an Access-Accept before it
answers, and a session's first accounting comes after that answer: a login is always recorded before its session.
"""

from datetime import datetime, timedelta

from sqlalchemy import text

from lastmile.db import TenantConnection
from lastmile.radius.dynauth import Nas, Session
from lastmile.radius.escaping import unescaped

__all__ = ["MAY_BE_OPEN", "SESSION_RECORDED", "open_sessions", "unaccounted", "unaccounted_login"]

# Rows that are older than the column `recorded_at`: as near as their own clocks tell. Accounting has whole seconds.
SESSION_RECORDED = "coalesce(recorded_at, acctstarttime + interval '10 s', '-infinity')"
_LOGIN_RECORDED = "coalesce(recorded_at, authdate)"

# A start later than the stop: the NAS has used the Acct-Session-Id again, and FreeRADIUS has one row for both sessions.
MAY_BE_OPEN = "(acctstoptime IS NULL OR acctstarttime > acctstoptime)"

_UNTIL = "coalesce(CAST(:until AS timestamptz), 'infinity')"

_ENOUGH = 1000
"""Sessions of a NAS that are looked at to tell whether it reports addresses."""

_OPEN_SESSIONS = text(
    f"""
    SELECT mine.*, nas.shortname, nas.secret, nas.coa_port, coalesce(nas.coa_address, nas_address) AS coa_address FROM (
        SELECT radacctid, acctsessionid, host(nasipaddress) AS nas_address, host(framedipaddress) AS framed_ip,
               callingstationid,
               coalesce({SESSION_RECORDED} > now() - CAST(:longest AS interval), true)
               AND (framedipaddress IS NOT NULL OR coalesce((
                   SELECT bool_or(framedipaddress IS NOT NULL) FROM (
                       SELECT framedipaddress FROM radacct other
                       WHERE other.nasipaddress = radacct.nasipaddress AND other.acctstoptime IS NULL LIMIT {_ENOUGH}
                   ) others), false)) AS address_in_doubt
        FROM radacct
        WHERE username = :user AND {MAY_BE_OPEN} AND {SESSION_RECORDED} <= {_UNTIL}
    ) mine LEFT JOIN nas ON nas.nasname = mine.nas_address
    ORDER BY radacctid
    """
)


def unaccounted(user: str, since: str, until: str) -> str:
    """Return the SQL condition: of `user`'s logins in that time, one has no session in `radacct`.

    Each session accounts for one login that was recorded before it. So from each login on there must be at least as
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


_UNACCOUNTED_LOGIN = text(f"SELECT {unaccounted('CAST(:user AS text)', 'now() - CAST(:longest AS interval)', _UNTIL)}")


async def open_sessions(
    connection: TenantConnection,
    user: str,
    *,
    longest: timedelta | None = None,
    until: datetime | None = None,
) -> list[tuple[Session, Nas | None]]:
    """Return the user's sessions that may be open, oldest first; None for a NAS that is not in `nas`.

    With `until`, those that were recorded until then. A session that was recorded before `longest` ago has ended
    by its Session-Timeout, unless the NAS says otherwise.
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


async def unaccounted_login(
    connection: TenantConnection, user: str, longest: timedelta, until: datetime | None = None
) -> bool:
    """Return whether a login of the user, recorded until `until`, can have a session that `radacct` does not have.

    Between the accept and the NAS's Accounting-Start (BNGs delay it by up to 300 s) a session exists that
    `open_sessions` does not see. The same holds for a NAS that sends no accounting.
    """
    return bool(await connection.scalar(_UNACCOUNTED_LOGIN, {"user": user, "longest": longest, "until": until}))
