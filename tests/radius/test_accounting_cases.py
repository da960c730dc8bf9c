"""Tests of deprovision orders with the logins and sessions that an unmodified FreeRADIUS stores.

FreeRADIUS serves the test's own database. The NAS is scripted: it matches every identification attribute.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.devstack.freeradius import FreeRadius
from lastmile.devstack.freeradius_nas import FreeRadiusNas
from lastmile.devstack.logins import make_login
from lastmile.devstack.nas import ScriptedNas
from lastmile.devstack.ports import HOST, Ports
from lastmile.radius.dynauth import DynamicAuthorization, Session
from lastmile.radius.logins import username
from lastmile.radius.passwords import read_password
from tests.support.audited_env import QUARANTINE, AuditedEnv

pytestmark = pytest.mark.freeradius_required

SECRET = "between-us"
USER = username("acme", "S-1")
CALLING = "#bng1#ge-1/0/0#100"


@dataclass(frozen=True)
class Line:
    """Subscriber S-1 with its NAS and the RADIUS server."""

    server: FreeRadius
    env: AuditedEnv
    owner: asyncpg.Connection
    nas: ScriptedNas
    password: str

    async def log_in(self) -> str:
        return await self._send("auth", f'User-Name = "{USER}", User-Password = "{self.password}"')

    async def account(self, status: str, session: str = "4F0C-01", more: str = "") -> None:
        """Send one Accounting-Request; `more` is in radclient's notation."""
        attributes = f'User-Name = "{USER}", NAS-IP-Address = {HOST}, Acct-Session-Id = "{session}"'
        reply = await self._send("acct", f"{attributes}, Acct-Status-Type = {status}{more}")
        assert reply.startswith("Accounting-Response")

    async def _send(self, kind: str, request: str) -> str:
        port = {"auth": self.server.auth_port, "acct": self.server.acct_port}[kind]
        client = await asyncio.create_subprocess_exec(
            *("radclient", "-x", f"{HOST}:{port}", kind, SECRET),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await client.communicate(request.encode())
        return output.decode().partition("Received ")[2]

    async def deprovision(self) -> bool:
        """Return whether the end of the session is confirmed, and check the quarantine of the prefix."""
        await self.env.deprovision()
        confirmed = await self.owner.fetchval("SELECT disconnect_confirmed FROM delegations")
        rest = await self.owner.fetchval(
            "SELECT s.free_at - d.released_at FROM slots s JOIN delegations d USING (pool_id, slot)"
        )
        assert rest == (QUARANTINE.confirmed if confirmed else QUARANTINE.unconfirmed)
        return bool(confirmed)


@pytest.fixture
async def line(database: Database, owner: asyncpg.Connection, owner_url: str, tmp_path: Path) -> AsyncIterator[Line]:
    login = await make_login(owner_url, "radius", "chosen-by-the-test", "lastmile_radius")
    ports = Ports(tmp_path)
    server = FreeRadius(
        tmp_path,
        database_url=login,
        secret=SECRET,
        auth_port=ports.claim("authentication"),
        acct_port=ports.claim("accounting"),
    )
    async with (
        server,
        ScriptedNas(SECRET.encode()) as nas,
        DynamicAuthorization(timeout=30, tries=1, in_flight=8) as authorization,
    ):
        await owner.execute(
            "INSERT INTO nas (nasname, shortname, secret, coa_port) VALUES ($1, 'bng-1', $2, $3)",
            *(HOST, SECRET, nas.nas.port),
        )
        env = AuditedEnv(database, owner, authorization)
        await env.provision()
        async with database.tenant("acme") as connection:
            password = await read_password(connection, USER)
        assert password is not None
        yield Line(server, env, owner, nas, password)


async def test_deprovision_after_one_session_is_confirmed(line: Line) -> None:
    assert (await line.log_in()).startswith("Access-Accept")
    await line.account("Start")
    line.nas.sessions["4F0C-01"] = {"User-Name": USER}
    assert await line.deprovision()
    assert line.nas.sessions == {}


async def test_deprovision_of_a_line_that_never_logged_in_is_confirmed(line: Line) -> None:
    assert await line.deprovision()


async def test_deprovision_with_an_escaped_calling_station_ends_the_session(line: Line) -> None:
    await line.log_in()
    address = ", Framed-IP-Address = 198.51.100.7"
    await line.account("Start", more=f'{address}, Calling-Station-Id = "{CALLING}"')
    assert await line.owner.fetchval("SELECT callingstationid FROM radacct") == "=23bng1=23ge-1/0/0=23100"
    line.nas.sessions["4F0C-01"] = {
        "User-Name": USER,
        "Framed-IP-Address": "198.51.100.7",
        "Calling-Station-Id": CALLING,
    }
    line.nas.requires = frozenset({"Calling-Station-Id"})

    assert await line.deprovision()
    assert (await line.nas.next_request()).attributes["Calling-Station-Id"] == [CALLING]
    assert line.nas.sessions == {}


@pytest.mark.parametrize("session", ["a|b+c=d#1", "=23", "Zürich#1", "50%|'x'"])
async def test_deprovision_with_an_escaped_session_id_ends_the_session(line: Line, session: str) -> None:
    await line.log_in()
    await line.account("Start", session)
    stored = await line.owner.fetchval("SELECT acctsessionid FROM radacct")
    assert stored != session, "FreeRADIUS escapes it"
    line.nas.sessions[session] = {"User-Name": USER}
    assert await line.deprovision()
    assert line.nas.sessions == {}


async def test_deprovision_with_escaped_values_ends_the_session_on_a_freeradius(
    line: Line, tmp_path: Path, unused_udp_port: int
) -> None:
    """FreeRADIUS is both the server and the NAS."""
    session = "a|b+c=d#1"
    has = {"User-Name": USER, "Acct-Session-Id": session, "Calling-Station-Id": CALLING}
    await line.log_in()
    await line.account("Start", session, f', Calling-Station-Id = "{CALLING}"')
    async with FreeRadiusNas(tmp_path, secret=SECRET.encode(), port=unused_udp_port, sessions=[has]) as nas:
        await line.owner.execute("UPDATE nas SET coa_port = $1", nas.nas.port)
        assert await line.deprovision()
        async with DynamicAuthorization(timeout=30, tries=1, in_flight=1) as client:
            as_stored = Session(USER, "a=7Cb=2Bc=3Dd=231", HOST, calling_station_id="=23bng1=23ge-1/0/0=23100")
            assert (await client.disconnect(nas.nas, as_stored)).error_cause == 503


@pytest.mark.parametrize("accounted", ["", ", Framed-IP-Address = 198.51.100.7"], ids=["none", "the first"])
async def test_deprovision_with_an_unknown_address_is_unconfirmed(line: Line, accounted: str) -> None:
    """The NAS identifies the session by an address that it got after its Start and has not yet reported."""
    await line.account("Start", "somebody's", ", Framed-IP-Address = 198.51.100.9")
    await line.owner.execute("UPDATE radacct SET username = 'S-2@acme.lastmile'")
    await line.log_in()
    await line.account("Start", more=accounted)
    line.nas.sessions["4F0C-01"] = {"User-Name": USER, "Framed-IP-Address": "198.51.100.8"}
    line.nas.requires = frozenset({"Framed-IP-Address"})
    assert not await line.deprovision()
    assert line.nas.sessions.keys() == {"4F0C-01"}


async def test_deprovision_with_an_address_from_an_interim_update_ends_the_session(line: Line) -> None:
    await line.log_in()
    await line.account("Start")
    await line.account("Interim-Update", more=", Framed-IP-Address = 198.51.100.8")
    line.nas.sessions["4F0C-01"] = {"User-Name": USER, "Framed-IP-Address": "198.51.100.8"}
    line.nas.requires = frozenset({"Framed-IP-Address"})
    assert await line.deprovision()
    assert line.nas.sessions == {}


HOURS_AHEAD = 4102444800  # 2100-01-01
IN_1970 = 600


@pytest.mark.parametrize("clock", [None, HOURS_AHEAD, IN_1970], ids=["right", "ahead", "in 1970"])
async def test_deprovision_before_a_delayed_start_is_unconfirmed(line: Line, clock: int | None) -> None:
    """The closed session belongs to the previous login. The Start of the last login has not arrived yet."""
    when = f", Event-Timestamp = {clock}" if clock else ""
    await line.log_in()
    await line.account("Start", more=when)
    await line.account("Stop", more=when)
    await line.log_in()
    assert not await line.deprovision()


@pytest.mark.parametrize("clock", [None, HOURS_AHEAD, IN_1970], ids=["right", "ahead", "in 1970"])
async def test_deprovision_after_closed_sessions_is_confirmed_whatever_the_clock(line: Line, clock: int | None) -> None:
    when = f", Event-Timestamp = {clock}" if clock else ""
    for session in ("1", "2"):
        await line.log_in()
        await line.account("Start", session, when)
        await line.account("Stop", session, when)
    assert await line.deprovision()


async def test_confirmation_before_a_recorded_login_is_withdrawn(line: Line, owner_url: str) -> None:
    """FreeRADIUS reads the account before the block, and records its Access-Accept after the release."""
    holds_up = await asyncpg.connect(owner_url)
    transaction = holds_up.transaction()
    await transaction.start()
    await holds_up.execute("LOCK TABLE radpostauth IN EXCLUSIVE MODE")
    login = asyncio.create_task(line.log_in())
    while True:
        if await line.owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            break
        await asyncio.sleep(0.02)  # a lock's queue cannot be waited for

    assert await line.deprovision()
    assert await line.env.audit() == []
    await transaction.commit()
    await holds_up.close()
    assert (await login).startswith("Access-Accept")

    violations = await line.env.audit()
    assert [violation.invariant.name for violation in violations] == ["confirmed_too_early"]
    assert await line.env.repair(violations) == violations
    assert await line.owner.fetchval("SELECT disconnect_confirmed FROM delegations") is False
    rest = "SELECT s.free_at - d.released_at FROM slots s JOIN delegations d USING (pool_id, slot)"
    assert await line.owner.fetchval(rest) == QUARANTINE.unconfirmed


async def test_deprovision_after_a_reused_session_id_is_unconfirmed(line: Line) -> None:
    await line.log_in()
    await line.account("Start", more=", Event-Timestamp = 1000")
    await line.account("Stop", more=", Event-Timestamp = 2000")
    await line.log_in()
    await line.account("Start", more=", Event-Timestamp = 3000")
    (row,) = await line.owner.fetch("SELECT acctstarttime > acctstoptime AS reused FROM radacct")
    assert row["reused"]
    line.nas.sessions["4F0C-01"] = {"User-Name": USER}
    assert not await line.deprovision()
    assert line.nas.sessions == {}, "the second session is ended all the same"
