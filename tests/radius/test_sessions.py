"""Who is online, and at which NAS, from FreeRADIUS's accounting."""

import asyncpg

from db import Database
from radius.dynauth import Nas, Session
from radius.nas import NasRecord, add_nas
from radius.sessions import open_sessions

USER = "S-1@acme.lastmile"
ROW = """
    INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, framedipaddress, callingstationid,
                         acctstarttime, acctstoptime)
    VALUES ($1, $1, $2, $3, $4, $5, now(), CASE WHEN $6 THEN NULL ELSE now() END)
"""


async def sessions(database: Database, user: str = USER, *, tenant: str = "acme") -> list[tuple[Session, Nas | None]]:
    async with database.tenant(tenant) as connection:
        return await open_sessions(connection, user)


async def accounted(
    owner: asyncpg.Connection,
    session: str,
    nas: str,
    *,
    user: str = USER,
    ip: str | None = None,
    mac: str = "",
    is_open: bool = True,
) -> None:
    await owner.execute(ROW, session, user, nas, ip, mac, is_open)


async def test_an_open_session_comes_with_its_nas(database: Database, owner: asyncpg.Connection) -> None:
    async with database.platform() as platform:
        await add_nas(platform, NasRecord(address="192.0.2.1", name="bng-1", secret="between-us", coa_port=1700))
    await accounted(owner, "4F0C", "192.0.2.1", ip="198.51.100.7", mac="00-1A-2B-3C-4D-5E")
    assert await sessions(database) == [
        (
            Session(USER, "4F0C", "192.0.2.1", "198.51.100.7", "00-1A-2B-3C-4D-5E"),
            Nas("bng-1", "192.0.2.1", 1700, b"between-us"),
        )
    ]


async def test_a_nas_is_found_by_its_ipv6_address(database: Database, owner: asyncpg.Connection) -> None:
    async with database.platform() as platform:
        await add_nas(platform, NasRecord(address="2001:DB8:0:0::1", name="bng-6", secret="between-us"))
    await accounted(owner, "4F0C", "2001:db8::1")
    ((session, nas),) = await sessions(database)
    assert (session.nas_address, nas) == ("2001:db8::1", Nas("bng-6", "2001:db8::1", 3799, b"between-us"))


async def test_an_unknown_nas_is_none_and_empty_fields_are_left_out(
    database: Database, owner: asyncpg.Connection
) -> None:
    await accounted(owner, "4F0C", "192.0.2.9")
    assert await sessions(database) == [(Session(USER, "4F0C", "192.0.2.9"), None)]


async def test_only_open_sessions_of_the_user_oldest_first(database: Database, owner: asyncpg.Connection) -> None:
    await accounted(owner, "closed", "192.0.2.1", is_open=False)
    await accounted(owner, "second", "192.0.2.2")
    await accounted(owner, "somebody's", "192.0.2.1", user="S-2@acme.lastmile")
    await accounted(owner, "third", "192.0.2.1")
    assert [session.acct_session_id for session, _ in await sessions(database)] == ["second", "third"]


async def test_sessions_of_another_tenant_are_not_seen(database: Database, owner: asyncpg.Connection) -> None:
    await accounted(owner, "4F0C", "192.0.2.1")
    assert await sessions(database, tenant="other") == []
