"""The sessions of a subscriber in RADIUS accounting."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select, func, select

from lastmile.db import Database
from lastmile.radius import accounts
from lastmile.radius.escaping import printable, unescaped
from lastmile.radius.tables import radacct
from lastmile.services.records.pages import Page, PageRequest, page_of

__all__ = ["SessionRecord", "list_sessions", "open_sessions", "readable"]

_COLUMNS = (
    radacct.c.acctsessionid.label("session"),
    func.host(radacct.c.nasipaddress).label("nas"),
    radacct.c.acctstarttime.label("since"),
    radacct.c.callingstationid.label("calling_station"),
    func.host(radacct.c.framedipaddress).label("ipv4_address"),
    func.text(radacct.c.delegatedipv6prefix).label("ipv6_prefix"),
)


class SessionRecord(BaseModel):
    """One session, as the NAS has reported it."""

    session: str
    """Acct-Session-Id."""
    nas: str
    since: datetime | None
    until: datetime | None
    """None: the session is open."""
    calling_station: str | None
    ipv4_address: str | None
    ipv6_prefix: str | None
    input_octets: int | None
    output_octets: int | None
    terminate_cause: str | None


def open_sessions(user: str) -> Select[Any]:
    """Return the query of the open sessions of the user, oldest first."""
    mine = (radacct.c.username == user, radacct.c.acctstoptime.is_(None))
    return select(*_COLUMNS).where(*mine).order_by(radacct.c.radacctid)


def readable(session: dict[str, Any]) -> dict[str, Any]:
    """Return the session with its texts as the NAS sent them: FreeRADIUS's SQL module escapes them."""
    texts = {name: session[name] for name in ("session", "calling_station") if session[name]}
    return session | {name: printable(unescaped(stored)) for name, stored in texts.items()}


async def list_sessions(
    database: Database, tenant: str, subscriber_ref: str, request: PageRequest, *, online: bool | None = None
) -> Page[SessionRecord]:
    """Return the sessions of the subscriber's user name, newest first; with `online`, only open or only ended ones."""
    account = radacct.c
    query = select(
        account.radacctid,
        *_COLUMNS,
        account.acctstoptime.label("until"),
        account.acctinputoctets.label("input_octets"),
        account.acctoutputoctets.label("output_octets"),
        func.nullif(account.acctterminatecause, "").label("terminate_cause"),
    )
    if online is not None:
        query = query.where(account.acctstoptime.is_(None) if online else account.acctstoptime.is_not(None))
    if request.after:
        query = query.where(account.radacctid < request.after[0])
    async with database.tenant(tenant) as connection:
        user = await accounts.find_username(connection, tenant, subscriber_ref)
        query = query.where(account.username == user).order_by(account.radacctid.desc()).limit(request.limit + 1)
        rows = (await connection.execute(query)).all()
    return page_of(rows, request, _record, lambda row: (row.radacctid,))


def _record(row: Any) -> SessionRecord:
    return SessionRecord.model_validate(readable(dict(row._mapping)))
