"""Who is online and where: open sessions in `radacct`, each with the NAS that `nas` knows at its address."""

from sqlalchemy import func, select

from db import TenantConnection
from radius.dynauth import Nas, Session
from radius.tables import nas, radacct

__all__ = ["open_sessions"]


async def open_sessions(connection: TenantConnection, user: str) -> list[tuple[Session, Nas | None]]:
    """The user's sessions without a stop record, oldest first; None for a NAS that is not in `nas`."""
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
        .where(radacct.c.username == user, radacct.c.acctstoptime.is_(None))
        .order_by(radacct.c.radacctid)
    )
    return [
        (
            Session(user, row.acctsessionid, row.nas_address, row.framed_ip, row.callingstationid or None),
            Nas(row.shortname, row.nas_address, row.coa_port, row.secret.encode()) if row.secret else None,
        )
        for row in rows
    ]
