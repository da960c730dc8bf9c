"""Who is online and where: open sessions in `radacct`, each with the NAS that `nas` knows at its address."""

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, true

from db import TenantConnection
from radius.dynauth import Nas, Session
from radius.tables import nas, radacct, radpostauth

__all__ = ["open_sessions", "unaccounted_login"]

# Accounting's times are the NAS's, in whole seconds; a login's are the database's.
CLOCK_SKEW = timedelta(seconds=10)


async def open_sessions(
    connection: TenantConnection, user: str, before: datetime | None = None
) -> list[tuple[Session, Nas | None]]:
    """The user's sessions without a stop record, oldest first; None for a NAS that is not in `nas`.

    With `before` those that began until then, or nobody knows when.
    """
    old = or_(radacct.c.acctstarttime.is_(None), radacct.c.acctstarttime <= before) if before else true()
    rows = await connection.execute(
        select(
            radacct.c.acctsessionid,
            func.host(radacct.c.nasipaddress).label("nas_address"),
            func.host(radacct.c.framedipaddress).label("framed_ip"),
            radacct.c.callingstationid,
            nas.c.shortname,
            nas.c.secret,
            nas.c.coa_port,
        )
        .outerjoin(nas, nas.c.nasname == func.host(radacct.c.nasipaddress))
        .where(radacct.c.username == user, radacct.c.acctstoptime.is_(None), old)
        .order_by(radacct.c.radacctid)
    )
    return [
        (
            Session(user, row.acctsessionid, row.nas_address, row.framed_ip, row.callingstationid or None),
            Nas(row.shortname, row.nas_address, row.coa_port, row.secret.encode()) if row.secret else None,
        )
        for row in rows
    ]


async def unaccounted_login(
    connection: TenantConnection, user: str, longest_session: timedelta, before: datetime | None = None
) -> bool:
    """Whether the user's last Access-Accept, or the last `before`, has no session in `radacct`, and can still be one.

    Between the accept and the NAS's Accounting-Start a session exists that `open_sessions` cannot see. The same
    goes for a NAS that sends no accounting at all: no session in `radacct` proves nothing then.
    """
    accepted = await connection.scalar(
        select(func.max(radpostauth.c.authdate)).where(
            radpostauth.c.username == user,
            radpostauth.c.reply == "Access-Accept",
            radpostauth.c.authdate > func.now() - longest_session,
            radpostauth.c.authdate <= before if before else true(),
        )
    )
    if accepted is None:
        return False
    started = select(radacct.c.radacctid).where(
        radacct.c.username == user,
        radacct.c.acctstarttime >= accepted - CLOCK_SKEW,
        # One that began later is of another login.
        radacct.c.acctstarttime <= before if before else true(),
    )
    return await connection.scalar(started.limit(1)) is None
