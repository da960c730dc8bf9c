"""A user's open sessions, read from accounting (`radacct`) and the log of logins (`radpostauth`).

Sessions go on under a former user name: both queries search under every name that the user had.

No query compares times of two clocks: accounting has the NAS's times, a login has the RADIUS server's time, and both
clocks can be hours wrong. The database sets `recorded_at` when it inserts the row. A login is always recorded before
its session: FreeRADIUS records an Access-Accept before it sends it, and the NAS reports the session after that.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.radius.dynauth import Nas, Session
from lastmile.radius.escaping import unescaped

__all__ = ["find_open_sessions", "has_unaccounted_login"]

_NAMES = """
    SELECT CAST(:user AS text) AS name, coalesce(CAST(:until AS timestamptz), 'infinity') AS until
    UNION ALL
    SELECT former, least(logins_until, CAST(:until AS timestamptz)) FROM former_usernames
    WHERE username = :user AND coalesce(logins_until > now() - CAST(:longest AS interval), true)
"""
"""The names of the user, each with the time of its last login. No session under an older name is open."""

_SAMPLE = 1000
"""The number of sessions of a NAS that are read to decide whether the NAS reports addresses."""

_OPEN_SESSIONS = DirectStatement(
    f"""
    SELECT mine.*, nas.shortname, nas.secret, nas.type, nas.coa_port,
           coalesce(nas.coa_address, nas_address) AS coa_address
    FROM (
        SELECT radacctid, username, acctsessionid, callingstationid,
               host(nasipaddress) AS nas_address, host(framedipaddress) AS framed_ip,
               coalesce(lastmile_session_recorded(radacct) > now() - CAST(:longest AS interval), true)
               AND (framedipaddress IS NOT NULL OR coalesce((
                   SELECT bool_or(framedipaddress IS NOT NULL) FROM (
                       SELECT framedipaddress FROM radacct other
                       WHERE other.nasipaddress = radacct.nasipaddress AND other.acctstoptime IS NULL LIMIT {_SAMPLE}
                   ) others), false)) AS address_in_doubt
        FROM ({_NAMES}) names JOIN radacct ON username = name
        WHERE lastmile_session_may_be_open(radacct) AND lastmile_session_recorded(radacct) <= until
          AND (CAST(:using AS bigint[]) IS NULL OR EXISTS (
              SELECT FROM unnest(CAST(:using AS bigint[])) used WHERE lastmile_session_may_use(radacct, used)))
    ) mine LEFT JOIN nas ON nas.nasname = mine.nas_address
    ORDER BY radacctid
    """
)


_UNACCOUNTED_LOGIN = DirectStatement(
    f"""
    SELECT bool_or(lastmile_has_unaccounted_login(name, now() - CAST(:longest AS interval), until))
    FROM ({_NAMES}) names
    """
)


async def find_open_sessions(
    connection: TenantConnection,
    user: str,
    *,
    longest: timedelta | None = None,
    until: datetime | None = None,
    using: Sequence[int] | None = None,
) -> list[tuple[Session, Nas | None]]:
    """Return the user's sessions that may be open, oldest first, each with its NAS, also those under a former name.

    The NAS is None if the table `nas` does not have it.

    Args:
        longest: the Session-Timeout. A session that was recorded earlier has ended: a 503 from its NAS is
            conclusive.
        until: return only sessions that were recorded until this time.
        using: return only sessions that may use the prefix of one of these delegations.
    """
    rows = await _OPEN_SESSIONS.all(
        connection, {"user": user, "longest": longest, "until": until, "using": None if using is None else [*using]}
    )
    return [
        (
            Session(
                unescaped(row.username),
                unescaped(row.acctsessionid),
                row.nas_address,
                row.framed_ip,
                unescaped(row.callingstationid) if row.callingstationid else None,
                row.address_in_doubt,
            ),
            Nas(row.shortname, row.coa_address, row.coa_port, row.secret.encode(), row.type) if row.secret else None,
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
    asked = {"user": user, "longest": longest, "until": until}
    return bool(await _UNACCOUNTED_LOGIN.scalar(connection, asked))
