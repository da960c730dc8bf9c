"""Tests of an unmodified FreeRADIUS with Lastmile's tables."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import make_url

from lastmile.contract.suspension import SuspensionMode
from lastmile.db.migrate import upgrade
from lastmile.radius.catalogue import Catalogue, Choice
from lastmile.radius.groups import Group
from lastmile.radius.templates import READY_TEMPLATES
from tests.support.radius_server import Radius, running_radius

pytestmark = pytest.mark.freeradius_required

USER, PASSWORD = "line-1@acme.lastmile", "kept-to-ourselves"
PREFIX = "2001:db8:0:100::/56"


@pytest.fixture(scope="module")
async def radius(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Radius]:
    """The server, with one account that has a prefix and a plan."""
    admin = await asyncpg.connect(postgres_url)
    await admin.execute("CREATE DATABASE stock_freeradius")
    url = make_url(postgres_url).set(database="stock_freeradius").render_as_string(hide_password=False)
    await upgrade(url)
    database = await asyncpg.connect(url)
    await database.execute(
        f"""
        INSERT INTO radcheck (username, attribute, op, value)
            VALUES ('{USER}', 'Cleartext-Password', ':=', '{PASSWORD}');
        INSERT INTO radreply (username, attribute, op, value)
            VALUES ('{USER}', 'Delegated-IPv6-Prefix', '=', '{PREFIX}');
        INSERT INTO radusergroup (username, groupname) VALUES ('{USER}', 'fast@acme.lastmile');
        INSERT INTO radgroupreply (groupname, attribute, op, value)
            VALUES ('fast@acme.lastmile', 'WISPr-Bandwidth-Max-Down', ':=', '1000000000')
        """
    )
    directory = tmp_path_factory.mktemp("radius")
    async with running_radius(url, database, directory) as running:
        yield running
    await database.close()
    await admin.execute("DROP DATABASE stock_freeradius WITH (FORCE)")
    await admin.close()


async def test_accept_contains_exactly_the_prefix_and_the_rates(radius: Radius) -> None:
    reply = await radius.send("auth", User_Name=USER, User_Password=PASSWORD)
    assert reply.startswith("Access-Accept")
    assert {line.strip() for line in reply.splitlines()[1:] if line.strip()} == {
        f"Delegated-IPv6-Prefix = {PREFIX}",
        "WISPr-Bandwidth-Max-Down = 1000000000",
    }


async def accepted(radius: Radius, user: str, group: Group, templates: str) -> list[str]:
    """Return the reply items of a login of a new account in `group`, written from these templates."""
    catalogue = Catalogue(choices={group.tenant: Choice((templates,))})
    await radius.database.execute(
        "INSERT INTO radcheck (username, attribute, op, value) VALUES ($1, 'Cleartext-Password', ':=', $2)",
        *(user, PASSWORD),
    )
    await radius.database.execute("INSERT INTO radusergroup (username, groupname) VALUES ($1, $2)", user, group.name)
    for table, items in (
        ("radgroupreply", catalogue.reply_items(group)),
        ("radgroupcheck", catalogue.check_items(group)),
    ):
        await radius.database.executemany(
            f"INSERT INTO {table} (groupname, attribute, op, value) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            [(group.name, *item) for item in items],
        )
    reply = await radius.send("auth", User_Name=user, User_Password=PASSWORD)
    assert reply.startswith("Access-Reject" if group.suspended is SuspensionMode.BLOCK else "Access-Accept")
    return [line.strip() for line in reply.splitlines()[1:] if line.strip()]


@pytest.mark.parametrize("state", [None, SuspensionMode.SLOW, SuspensionMode.WALLED_GARDEN], ids=str)
@pytest.mark.parametrize("template", READY_TEMPLATES)
async def test_accept_contains_the_attributes_of_a_ready_template(
    radius: Radius, template: str, state: SuspensionMode | None
) -> None:
    tenant = f"{template}-{state or 'none'}".replace("_", "-")
    group = Group(tenant, "home", 500_000, 100_000, state)
    catalogue = Catalogue(choices={tenant: Choice((template,))})
    lines = await accepted(radius, f"line@{tenant}.lastmile", group, template)
    assert sorted(line.replace('"', "") for line in lines) == sorted(
        f"{item.attribute} = {item.value}" for item in catalogue.reply_items(group)
    )


async def test_login_of_a_blocked_account_is_rejected(radius: Radius) -> None:
    group = Group("blocked", "home", 500_000, 100_000, SuspensionMode.BLOCK)
    assert await accepted(radius, "line@blocked.lastmile", group, "wispr") == []
    await radius.database.execute(
        "UPDATE radcheck SET attribute = 'Auth-Type', value = 'Accept' WHERE username LIKE '%blocked%'"
    )
    reply = await radius.send("auth", User_Name="line@blocked.lastmile")
    assert reply.startswith("Access-Reject"), "a line without a password"


async def test_accept_of_an_xgs_pon_plan_contains_its_rates(radius: Radius) -> None:
    group = Group("acme", "xgs", 8_000_000, 4_000_000)
    assert await accepted(radius, "line-8@acme.lastmile", group, "wispr") == [
        "ChilliSpot-Bandwidth-Max-Down = 8000000",
        "ChilliSpot-Bandwidth-Max-Up = 4000000",
    ]


@pytest.mark.parametrize(("user", "password"), [(USER, "guessed"), ("nobody@acme.lastmile", PASSWORD)])
async def test_reject_contains_no_attribute(radius: Radius, user: str, password: str) -> None:
    reply = await radius.send("auth", User_Name=user, User_Password=password)
    assert reply.startswith("Access-Reject")
    assert not [line for line in reply.splitlines()[1:] if line.strip()]


async def test_login_with_an_invalid_realm_is_rejected(radius: Radius) -> None:
    await radius.database.execute(
        "INSERT INTO radcheck (username, attribute, op, value) VALUES ('a@b', 'Cleartext-Password', ':=', 'c')"
    )
    assert (await radius.send("auth", User_Name="a@b", User_Password="c")).startswith("Access-Reject")


async def test_login_attempt_stores_no_password(radius: Radius) -> None:
    for password in (PASSWORD, "guessed-wrongly"):
        await radius.send("auth", User_Name=USER, User_Password=password)
    attempts = await radius.database.fetch("SELECT reply, pass FROM radpostauth WHERE username = $1", USER)
    assert {attempt["reply"] for attempt in attempts} == {"Access-Accept", "Access-Reject"}
    assert {attempt["pass"] for attempt in attempts} == {""}
    log = (radius.directory / "logs" / "radius.log").read_text()
    assert PASSWORD not in log
    assert "guessed-wrongly" not in log
    assert "chosen-by-the-test" not in log


async def test_accounting_records_a_session_from_start_to_stop(radius: Radius) -> None:
    session = {"User_Name": USER, "Acct_Session_Id": "4F0C", "NAS_IP_Address": "192.0.2.1"}
    started = await radius.send("acct", **session, Acct_Status_Type="Start", Delegated_IPv6_Prefix=PREFIX)
    assert started.startswith("Accounting-Response")
    (row,) = await radius.database.fetch("SELECT * FROM radacct")
    assert row["acctuniqueid"]
    assert (str(row["delegatedipv6prefix"]), row["acctstoptime"]) == (PREFIX, None)

    await radius.send("acct", **session, Acct_Status_Type="Stop", Acct_Terminate_Cause="Admin-Reset")
    (stopped,) = await radius.database.fetch("SELECT * FROM radacct")
    assert stopped["acctuniqueid"] == row["acctuniqueid"]
    assert stopped["acctstoptime"] is not None
