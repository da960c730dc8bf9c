"""Tests of the search for open sessions in FreeRADIUS's accounting."""

from datetime import datetime, timedelta

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.radius.dynauth import Nas, Session
from lastmile.radius.nas import NasRecord, add_nas
from lastmile.radius.sessions import find_open_sessions, has_unaccounted_login

USER = "S-1@acme.lastmile"
ROW = """
    INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, framedipaddress, callingstationid,
                         acctstarttime, acctstoptime)
    VALUES ($1, $1, $2, $3, $4, $5, now(), CASE WHEN $6 THEN NULL ELSE now() END)
"""


async def sessions(database: Database, user: str = USER, *, tenant: str = "acme") -> list[tuple[Session, Nas | None]]:
    async with database.tenant(tenant) as connection:
        return await find_open_sessions(connection, user)


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


async def test_open_session_includes_its_nas(database: Database, owner: asyncpg.Connection) -> None:
    async with database.platform() as platform:
        await add_nas(platform, NasRecord(address="192.0.2.1", name="bng-1", secret="between-us", coa_port=1700))
    await accounted(owner, "4F0C", "192.0.2.1", ip="198.51.100.7", mac="00-1A-2B-3C-4D-5E")
    assert await sessions(database) == [
        (
            Session(USER, "4F0C", "192.0.2.1", "198.51.100.7", "00-1A-2B-3C-4D-5E"),
            Nas("bng-1", "192.0.2.1", 1700, b"between-us"),
        )
    ]


async def test_nas_is_found_by_its_ipv6_address(database: Database, owner: asyncpg.Connection) -> None:
    async with database.platform() as platform:
        await add_nas(platform, NasRecord(address="2001:DB8:0:0::1", name="bng-6", secret="between-us"))
    await accounted(owner, "4F0C", "2001:db8::1")
    ((session, nas),) = await sessions(database)
    assert (session.nas_address, nas) == ("2001:db8::1", Nas("bng-6", "2001:db8::1", 3799, b"between-us"))


async def test_open_session_on_an_unknown_nas_has_no_nas(database: Database, owner: asyncpg.Connection) -> None:
    await accounted(owner, "4F0C", "192.0.2.9")
    assert await sessions(database) == [(Session(USER, "4F0C", "192.0.2.9"), None)]


async def test_find_open_sessions_returns_those_of_the_user_oldest_first(
    database: Database, owner: asyncpg.Connection
) -> None:
    await accounted(owner, "closed", "192.0.2.1", is_open=False)
    await accounted(owner, "second", "192.0.2.2")
    await accounted(owner, "somebody's", "192.0.2.1", user="S-2@acme.lastmile")
    await accounted(owner, "third", "192.0.2.1")
    assert [session.acct_session_id for session, _ in await sessions(database)] == ["second", "third"]


async def test_open_session_comes_with_the_values_that_the_nas_sent(
    database: Database, owner: asyncpg.Connection
) -> None:
    await accounted(owner, "a=7Cb=231", "192.0.2.1", mac="=23bng1=23100")
    ((session, _),) = await sessions(database)
    assert (session.acct_session_id, session.calling_station_id) == ("a|b#1", "#bng1#100")


async def test_session_with_a_start_after_its_stop_may_be_open(database: Database, owner: asyncpg.Connection) -> None:
    await accounted(owner, "used again", "192.0.2.1", is_open=False)
    await owner.execute("UPDATE radacct SET acctstarttime = acctstoptime + interval '1 minute'")
    assert [session.acct_session_id for session, _ in await sessions(database)] == ["used again"]


async def test_address_of_a_session_is_in_doubt_where_its_nas_reports_addresses(
    database: Database, owner: asyncpg.Connection
) -> None:
    await accounted(owner, "without", "192.0.2.1")
    await accounted(owner, "elsewhere", "192.0.2.2")
    await accounted(owner, "somebody's", "192.0.2.1", user="S-2@acme.lastmile", ip="198.51.100.7")
    assert [session.address_in_doubt for session, _ in await sessions(database)] == [True, False]


async def test_address_of_a_session_older_than_the_longest_is_not_in_doubt(
    database: Database, owner: asyncpg.Connection
) -> None:
    await accounted(owner, "old", "192.0.2.1", ip="198.51.100.7")
    await owner.execute("UPDATE radacct SET recorded_at = now() - interval '8 days'")
    async with database.tenant("acme") as connection:
        ((session, _),) = await find_open_sessions(connection, USER, longest=timedelta(days=7))
    assert not session.address_in_doubt


async def test_open_session_that_was_recorded_later_is_omitted(database: Database, owner: asyncpg.Connection) -> None:
    """The time of the NAS does not matter."""
    await accounted(owner, "before", "192.0.2.1")
    until = await owner.fetchval("SELECT clock_timestamp()")
    await accounted(owner, "after", "192.0.2.1")
    await owner.execute("UPDATE radacct SET acctstarttime = '1970-01-01' WHERE acctsessionid = 'after'")
    await owner.execute("UPDATE radacct SET acctstarttime = '2100-01-01' WHERE acctsessionid = 'before'")
    async with database.tenant("acme") as connection:
        found = await find_open_sessions(connection, USER, until=until)
    assert [session.acct_session_id for session, _ in found] == ["before"]


ACCEPT = "INSERT INTO radpostauth (username, reply) VALUES ($1, 'Access-Accept')"


async def unaccounted(database: Database, until: datetime | None = None) -> bool:
    async with database.tenant("acme") as connection:
        return await has_unaccounted_login(connection, USER, timedelta(days=7), until)


@pytest.mark.parametrize(
    ("recorded", "missing"),
    [
        ("", False),
        ("s", False),
        ("as", False),
        ("asas", False),
        ("aass", False),
        ("a", True),
        ("sa", True),
        ("ssa", True),
        ("asa", True),
        ("aas", True),
        ("ars", False),
    ],
)
async def test_login_without_a_session_of_its_own_is_unaccounted(
    database: Database, owner: asyncpg.Connection, recorded: str, missing: bool
) -> None:
    """`a` is an accept, `r` a reject, `s` a session, in the order in which they were recorded."""
    for n, what in enumerate(recorded):
        if what == "s":
            await accounted(owner, str(n), "192.0.2.1", is_open=n % 2 == 0)
        else:
            await owner.execute(ACCEPT if what == "a" else ACCEPT.replace("Accept", "Reject"), USER)
    assert await unaccounted(database) is missing


async def test_login_from_before_the_upgrade_is_matched_by_its_own_clock(
    database: Database, owner: asyncpg.Connection
) -> None:
    """The rows are older than the column `recorded_at`, and accounting has whole seconds."""
    await owner.execute(ACCEPT, USER)
    await accounted(owner, "4F0C", "192.0.2.1")
    await owner.execute("UPDATE radacct SET recorded_at = NULL, acctstarttime = date_trunc('second', now())")
    await owner.execute("UPDATE radpostauth SET recorded_at = NULL")
    assert not await unaccounted(database)
    await owner.execute("UPDATE radacct SET acctstarttime = now() - interval '1 minute'")
    assert await unaccounted(database)


async def test_login_older_than_the_longest_session_is_accounted_for(
    database: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute(ACCEPT, USER)
    until = await owner.fetchval("SELECT clock_timestamp()")
    await owner.execute("UPDATE radpostauth SET recorded_at = recorded_at - interval '8 days'")
    assert not await unaccounted(database)
    await owner.execute(ACCEPT, USER)
    assert await unaccounted(database)
    assert not await unaccounted(database, until)


async def test_sessions_of_another_tenant_are_not_seen(database: Database, owner: asyncpg.Connection) -> None:
    await accounted(owner, "4F0C", "192.0.2.1")
    assert await sessions(database, tenant="other") == []
