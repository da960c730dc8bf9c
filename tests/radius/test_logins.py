"""Tests of logins of every kind of line at an unmodified FreeRADIUS, with requests as BNGs send them."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import insert

from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.fields.stored import STORED
from lastmile.radius.accounts import (
    block_account,
    create_account,
    delete_account,
    find_username,
    follow_line,
    unblock_account,
)
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.passwords import read_password
from lastmile.radius.tables import radcheck
from tests.conftest import copy_of
from tests.support.radius_server import Radius, running_radius

pytestmark = pytest.mark.freeradius_required

PLAN: dict[str, Any] = {"plan": "fiber-500", "download_kbps": 500_000, "upload_kbps": 100_000}
MAC = "00:1a:2b:3c:4d:5e"
CIRCUIT, REMOTE = "OLT-1 eth 0/1/3:100|7", 'C-4711 "left"'


@pytest.fixture(scope="module")
async def radius(stocked: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Radius]:
    async with copy_of(stocked) as url:
        owner = await asyncpg.connect(url)
        async with running_radius(url, owner, tmp_path_factory.mktemp("radius")) as running:
            yield running
        await owner.close()


@pytest.fixture
async def isp(radius: Radius) -> AsyncIterator["Isp"]:
    database = Database(radius.url)
    yield Isp(radius, database)
    await database.close()
    await radius.database.execute("TRUNCATE radcheck, radreply, radusergroup, radacct, radpostauth")


class Isp:
    """Accounts, and logins at the server."""

    def __init__(self, radius: Radius, database: Database) -> None:
        self.radius = radius
        self.database = database

    async def create(self, ref: str = "S-1", tenant: str = "acme", given: str | None = None, **line: Any) -> str:
        """Create the account; return its user name in the tables."""
        asked = Line.model_validate({"connection_type": "ftth"} | line)
        async with self.database.tenant(tenant) as connection:
            account = await create_account(connection, tenant, "O-1", ref, asked, password=given, **PLAN)
        return account.username

    async def act(self, function: Any, *arguments: Any) -> Any:
        async with self.database.tenant("acme") as connection:
            return await function(connection, *arguments)

    async def log_in(self, user: str, *, circuit: str | None = None, remote: str | None = None, **more: str) -> str:
        """Return the kind of the reply."""
        option82 = {"ADSL_Agent_Circuit_Id": circuit, "ADSL_Agent_Remote_Id": remote}
        attributes = {name: f"0x{sent.encode().hex()}" for name, sent in option82.items() if sent is not None}
        quoted = user.replace("\\", r"\\").replace('"', r"\"")
        return (await self.radius.send("auth", User_Name=f'"{quoted}"', **attributes, **more)).split()[0]


IDENTITIES = [
    ({"identified_by": "mac", "cpe_mac": MAC}, MAC),
    ({"identified_by": "circuit_id", "circuit_id": "OLT-1/0/1/3:100|7"}, "OLT-1/0/1/3:100|7"),
    (
        {"identified_by": "circuit_and_remote_id", "circuit_id": "eth-0/1:7", "remote_id": "C#47=11"},
        "eth-0/1:7.C#47=11",
    ),
    ({"username": "001A.2B3C.4D5E"}, "001A.2B3C.4D5E"),
]


@pytest.mark.parametrize(("identity", "sent"), IDENTITIES)
async def test_ipoe_login_without_a_password_is_accepted_until_blocked(
    isp: Isp, identity: dict[str, str], sent: str
) -> None:
    assert await isp.log_in(sent) == "Access-Reject"
    user = await isp.create(access="ipoe", option82_policy="ignore", **identity)
    assert await isp.log_in(sent) == "Access-Accept"
    await isp.act(block_account, user)
    assert await isp.log_in(sent) == "Access-Reject"
    await isp.act(unblock_account, user)
    assert await isp.log_in(sent) == "Access-Accept"
    assert await isp.act(delete_account, user, "O-1")
    assert await isp.log_in(sent) == "Access-Reject"


@pytest.mark.parametrize("password", [r"Ada's \"100%\" #0x%{User-Name}`", "0x616263", "\\\\n", "Zoë ਊ", "=23"])
async def test_given_password_of_any_characters_logs_in(isp: Isp, password: str) -> None:
    user = await isp.create(given=password)
    quoted = password.replace("\\", r"\\").replace('"', r"\"")
    assert await isp.log_in(user, User_Password=f'"{quoted}"') == "Access-Accept"
    assert await isp.log_in(user, User_Password='"another"') == "Access-Reject"


async def test_ipoe_account_blocked_by_an_operator_stays_blocked(isp: Isp) -> None:
    user = await isp.create(access="ipoe", identified_by="mac", cpe_mac=MAC)
    await isp.radius.database.execute(
        "INSERT INTO radcheck (username, attribute, op, value) VALUES ($1, 'Auth-Type', ':=', 'Reject')", user
    )
    await isp.act(unblock_account, user)
    assert await isp.log_in(MAC) == "Access-Reject"


@pytest.mark.parametrize("access", ["pppoe", "ipoe"])
async def test_enforced_option82_refuses_a_login_from_another_port(isp: Isp, access: str) -> None:
    ipoe = {"identified_by": "mac", "cpe_mac": MAC} if access == "ipoe" else {}
    user = await isp.create(access=access, circuit_id=CIRCUIT, remote_id=REMOTE, option82_policy="enforce", **ipoe)
    password = await isp.act(read_password, user)
    more = {"User_Password": f'"{password}"'} if password else {}
    assert await isp.log_in(user, circuit=CIRCUIT, remote=REMOTE, **more) == "Access-Accept"
    assert await isp.log_in(user, circuit=CIRCUIT, remote=REMOTE[:-1], **more) == "Access-Reject"
    assert await isp.log_in(user, circuit=CIRCUIT.lower(), remote=REMOTE, **more) == "Access-Reject"
    assert await isp.log_in(user, circuit=CIRCUIT, **more) == "Access-Reject"
    assert await isp.log_in(user, **more) == "Access-Reject"


@pytest.mark.parametrize("policy", ["log", "ignore"])
async def test_option82_that_is_not_enforced_accepts_a_login_from_another_port(isp: Isp, policy: str) -> None:
    await isp.create(
        access="ipoe", identified_by="mac", cpe_mac=MAC, circuit_id=CIRCUIT, remote_id=REMOTE, option82_policy=policy
    )
    assert await isp.log_in(MAC, circuit="another", remote=REMOTE) == "Access-Accept"
    stored = await isp.radius.database.fetchval("SELECT class FROM radpostauth")
    assert bool(stored) == (policy == "log"), "the audit reads the port from Class"


async def test_user_name_of_another_line_is_refused(isp: Isp) -> None:
    await isp.create(username="ada@isp.example")
    with pytest.raises(AccountConflictError, match=r"ada@isp\.example already belongs to subscriber S-1's line"):
        await isp.create("S-2", username="ada@isp.example")
    with pytest.raises(AccountConflictError, match="already belongs to an account that is none of this tenant's"):
        await isp.create("S-2", "other", access="ipoe", username="ada@isp.example")
    with pytest.raises(AccountConflictError, match=r"has an account with user name ada@isp\.example, not with eve"):
        await isp.create("S-1", username="eve@isp.example")
    assert await isp.act(find_username, "acme", "S-1") == "ada@isp.example"


async def test_sessions_of_a_given_user_name_are_the_tenants(isp: Isp) -> None:
    """Also those from before the account: a line that is taken over may be online."""
    session = {"User_Name": '"ada@isp.example"', "NAS_IP_Address": "192.0.2.1", "Acct_Status_Type": "Start"}
    await isp.radius.send("acct", **session, Acct_Session_Id="before")
    await isp.create(username="ada@isp.example")
    await isp.radius.send("acct", **session, Acct_Session_Id="after")
    await isp.log_in("ada@isp.example")
    rows = await isp.radius.database.fetch("SELECT tenant_id FROM radacct UNION ALL SELECT tenant_id FROM radpostauth")
    assert [row["tenant_id"] for row in rows] == ["acme"] * 3


async def test_account_follows_its_line_to_another_device_and_port(isp: Isp) -> None:
    line = {"connection_type": "ftth", "access": "ipoe", "identified_by": "mac"}
    there = line | {"cpe_mac": MAC, "circuit_id": "old", "option82_policy": "enforce"}
    await isp.create(**there)
    for change in ({"cpe_mac": "00:1a:2b:3c:4d:5f"}, {"circuit_id": "new"}):
        there |= change
        await isp.act(follow_line, "acme", "S-1", Line.model_validate(there))
    assert await isp.act(find_username, "acme", "S-1") == "00:1a:2b:3c:4d:5f"
    assert await isp.log_in("00:1a:2b:3c:4d:5f", circuit="new") == "Access-Accept"
    assert await isp.log_in("00:1a:2b:3c:4d:5f", circuit="old") == "Access-Reject"
    assert await isp.log_in(MAC, circuit="new") == "Access-Reject"
    await isp.act(follow_line, "acme", "S-1", Line.model_validate(there | {"option82_policy": "log"}))
    assert await isp.log_in("00:1a:2b:3c:4d:5f", circuit="old") == "Access-Accept"


async def test_account_does_not_follow_its_line_to_the_user_name_of_another(isp: Isp) -> None:
    await isp.create(username="ada@isp.example")
    await isp.create("S-2", username="eve@isp.example")
    with pytest.raises(AccountConflictError, match=r"ada@isp\.example already belongs to another line"):
        await isp.act(follow_line, "acme", "S-2", Line(connection_type="ftth", username="ada@isp.example"))


async def test_account_does_not_follow_its_line_to_a_generated_user_name(isp: Isp) -> None:
    there: dict[str, Any] = {"connection_type": "ftth", "access": "ipoe", "identified_by": "circuit_id"}
    await isp.create(**there, circuit_id=CIRCUIT)
    moved = Line.model_validate(there | {"circuit_id": "S-2@acme.lastmile"}, context=STORED)
    with pytest.raises(AccountConflictError, match=r"S-2@acme\.lastmile must not end with \.lastmile"):
        await isp.act(follow_line, "acme", "S-1", moved)


@pytest.mark.parametrize("user", ["S-1@acme.lastmile", "a@b@acme.lastmile", "S-1@Acme.lastmile", "S-1@isp.example"])
async def test_delegation_has_the_user_name_of_its_lines_account(isp: Isp, user: str) -> None:
    """Row-level security, accounts and delegations agree on whether a user name is a generated one."""
    owner = isp.radius.database
    async with isp.database.tenant("acme") as connection:
        await connection.execute(
            insert(radcheck).values(
                username=user, attribute="Auth-Type", op=":=", value="Accept", tenant_id="acme", subscriber_ref="S-1"
            )
        )
    async with owner.transaction():
        await owner.execute(
            """
            INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                                     created_by_order, state)
            SELECT 'acme', id, 0, '2001:db8::/56', 'S-1', 'ipv6_pd', 'k', 'o1', 'active' FROM pools WHERE name = 'home'
            """
        )
        assert await owner.fetchval("SELECT username FROM delegation_reply_items") == user
        await owner.execute("DELETE FROM delegations")
