"""Tests of the change of live sessions: what each type of NAS is told, and what a refusal leads to."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from pyrad.packet import CoARequest, DisconnectRequest

from lastmile.contract.suspension import Refusal, SuspensionMode
from lastmile.db import Database
from lastmile.devstack.nas import ACK, ScriptedNas, nak
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.groups import Group
from lastmile.radius.nas import NasRecord, add_nas
from lastmile.services.sessions import Sessions

USER = "S-1@acme.lastmile"
BEFORE = Group("acme", "home", 50_000, 10_000)
AFTER = replace(BEFORE, plan="fast", download_kbps=100_000)
IDENTITY = {"User-Name": USER}


@pytest.fixture
async def nas() -> AsyncIterator[ScriptedNas]:
    """A NAS with the open session `s1` of the user."""
    async with ScriptedNas(b"between-us", sessions={"s1": IDENTITY}) as scripted:
        yield scripted


@pytest.fixture
async def sessions(database: Database) -> AsyncIterator[Sessions]:
    async with DynamicAuthorization(timeout=0.1, tries=2, in_flight=16) as authorization:
        yield Sessions(database, authorization, timedelta(hours=24))


async def online(database: Database, owner: asyncpg.Connection, nas: ScriptedNas, nas_type: str) -> None:
    """Record the NAS with its type, and the session `s1` in accounting."""
    async with database.platform() as connection:
        record = NasRecord(
            address=nas.nas.address, name="bng", secret="between-us", coa_port=nas.nas.port, type=nas_type
        )
        await add_nas(connection, record)
    await owner.execute(
        "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime) "
        "VALUES ('s1', 's1', $1, '127.0.0.1', now())",
        USER,
    )


async def test_change_tells_a_session_its_rate_without_a_break(
    database: Database, owner: asyncpg.Connection, nas: ScriptedNas, sessions: Sessions
) -> None:
    await online(database, owner, nas, "mikrotik")
    assert await sessions.change("acme", USER, BEFORE, AFTER, Refusal.DISCONNECT) == []
    request = await nas.next_request()
    assert (request.code, request.attributes["Mikrotik-Rate-Limit"]) == (CoARequest, ["10000k/100000k"])
    assert nas.sessions == {"s1": IDENTITY}


async def test_change_sends_each_of_several_values_of_an_attribute(
    database: Database, owner: asyncpg.Connection, nas: ScriptedNas, sessions: Sessions
) -> None:
    await online(database, owner, nas, "cisco")
    assert await sessions.change("acme", USER, BEFORE, AFTER, Refusal.DISCONNECT) == []
    assert (await nas.next_request()).attributes["Cisco-AVPair"] == [
        *("ip:sub-qos-policy-in=up-10000k", "ip:sub-qos-policy-out=down-100000k")
    ]


@pytest.mark.parametrize(
    ("nas_type", "after"), [("other", AFTER), ("mikrotik", replace(BEFORE, suspended=SuspensionMode.BLOCK))]
)
async def test_change_that_no_coa_can_say_ends_the_session(
    database: Database,
    owner: asyncpg.Connection,
    nas: ScriptedNas,
    sessions: Sessions,
    nas_type: str,
    after: Group,
) -> None:
    await online(database, owner, nas, nas_type)
    assert await sessions.change("acme", USER, BEFORE, after, Refusal.DISCONNECT) == []
    assert (await nas.next_request()).code == DisconnectRequest
    assert nas.sessions == {}


async def test_change_that_no_coa_can_say_waits_for_the_next_login(
    database: Database, owner: asyncpg.Connection, nas: ScriptedNas, sessions: Sessions
) -> None:
    await online(database, owner, nas, "other")
    (problem,) = await sessions.change("acme", USER, BEFORE, AFTER, Refusal.NEXT_LOGIN)
    assert (
        "of type other cannot be told of this change by a CoA-Request. The change takes effect at the next" in problem
    )
    assert nas.sessions == {"s1": IDENTITY}


async def test_change_that_the_nas_refuses_ends_the_session(
    database: Database, owner: asyncpg.Connection, nas: ScriptedNas, sessions: Sessions
) -> None:
    await online(database, owner, nas, "mikrotik")
    nas.script = lambda request: ACK if request.code == DisconnectRequest else nak(405)
    assert await sessions.change("acme", USER, BEFORE, AFTER, Refusal.DISCONNECT) == []
    assert [(await nas.next_request()).code for _ in range(2)] == [CoARequest, DisconnectRequest]


async def test_change_that_the_nas_refuses_is_told_with_its_cause(
    database: Database, owner: asyncpg.Connection, nas: ScriptedNas, sessions: Sessions
) -> None:
    await online(database, owner, nas, "mikrotik")
    nas.script = lambda _: nak(405)
    (problem,) = await sessions.change("acme", USER, BEFORE, AFTER, Refusal.NEXT_LOGIN)
    assert "refused the CoA-Request for session s1: Error-Cause 405 Unsupported-Service" in problem


@pytest.mark.parametrize("on_refusal", Refusal)
async def test_change_with_a_silent_nas_tells_what_is_in_doubt(
    database: Database, owner: asyncpg.Connection, nas: ScriptedNas, sessions: Sessions, on_refusal: Refusal
) -> None:
    await online(database, owner, nas, "mikrotik")
    nas.script = lambda _: None
    (problem,) = await sessions.change("acme", USER, BEFORE, AFTER, on_refusal)
    assert "did not answer the CoA-Request for session s1" in problem
    assert ("did not answer the Disconnect-Request" in problem) == (on_refusal is Refusal.DISCONNECT)


async def test_change_of_a_session_that_has_ended_needs_nothing(
    database: Database, owner: asyncpg.Connection, nas: ScriptedNas, sessions: Sessions
) -> None:
    await online(database, owner, nas, "mikrotik")
    nas.sessions.clear()
    assert await sessions.change("acme", USER, BEFORE, AFTER, Refusal.NEXT_LOGIN) == []
