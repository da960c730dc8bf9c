"""Tests of changes of templates: what the groups in FreeRADIUS's tables hold afterwards."""

from dataclasses import replace

import asyncpg
import pytest

from lastmile.contract.lines import ConnectionType, Line
from lastmile.contract.suspension import SuspensionMode
from lastmile.db import Database
from lastmile.radius.accounts import create_account
from lastmile.radius.catalogue import Choice, read_catalogue
from lastmile.radius.errors import InvalidTemplateError, TemplateInUseError, UnknownTemplateError
from lastmile.radius.groups import Group
from lastmile.radius.membership import move_account, read_group
from lastmile.radius.nas import NasRecord, add_nas
from lastmile.radius.template_changes import choose_templates, reset_template, set_templates
from lastmile.radius.templates import READY_TEMPLATES, Template

USER = "S-1@acme.lastmile"
LINE = Line(connection_type=ConnectionType.FTTH)
HOME = Group("acme", "home", 50_000, 10_000)
FILTER = Template(summary="A filter", in_service=("Filter-Id := {plan}",))
RATE = ("Mikrotik-Rate-Limit", ":=", "10000k/50000k")


@pytest.fixture
async def account(database: Database) -> None:
    """The account S-1 of tenant acme."""
    async with database.tenant("acme") as connection:
        await create_account(
            connection, "acme", "o1", "S-1", LINE, plan="home", download_kbps=50_000, upload_kbps=10_000
        )


async def choose(database: Database, *names: str, tenant: str = "acme") -> tuple[Choice, int]:
    async with database.platform() as connection:
        return await choose_templates(connection, tenant, names, (None, None))


async def replies(owner: asyncpg.Connection, group: Group = HOME) -> list[tuple[str, ...]]:
    return [
        tuple(row)
        for row in await owner.fetch(
            "SELECT attribute, op, value FROM radgroupreply WHERE groupname = $1 ORDER BY id", group.name
        )
    ]


async def test_choice_of_a_tenant_replaces_the_items_of_its_groups(
    database: Database, owner: asyncpg.Connection, account: None
) -> None:
    await owner.execute("INSERT INTO radgroupreply (groupname, attribute, value) VALUES ($1, 'Class', 'x')", HOME.name)
    assert await choose(database, "mikrotik", "cisco") == (Choice(("mikrotik", "cisco")), 1)
    assert await replies(owner) == [
        ("Class", "=", "x"),
        RATE,
        ("Cisco-AVPair", "+=", "ip:sub-qos-policy-in=up-10000k"),
        ("Cisco-AVPair", "+=", "ip:sub-qos-policy-out=down-50000k"),
    ]
    assert await choose(database, "mikrotik", "cisco") == (Choice(("mikrotik", "cisco")), 0)


async def test_choice_of_a_tenant_leaves_the_groups_of_other_tenants(
    database: Database, owner: asyncpg.Connection, account: None
) -> None:
    before = await replies(owner)
    assert await choose(database, "mikrotik", tenant="other") == (Choice(("mikrotik",)), 0)
    assert await replies(owner) == before
    async with database.tenant("acme") as connection:
        assert (await read_catalogue(connection)).choices == {}


async def test_new_group_is_written_from_the_templates_of_its_tenant(
    database: Database, owner: asyncpg.Connection, account: None
) -> None:
    await choose(database, "mikrotik")
    fast = replace(HOME, download_kbps=60_000)
    async with database.tenant("acme") as connection:
        assert await move_account(connection, USER, fast) == HOME
        assert await move_account(connection, USER, fast) == fast
        assert await read_group(connection, USER) == fast
    assert await replies(owner, fast) == [("Mikrotik-Rate-Limit", ":=", "10000k/60000k")]
    assert await owner.fetchval("SELECT count(*) FROM radusergroup WHERE username = $1", USER) == 1


async def test_blocked_group_rejects_logins_by_a_check_item(
    database: Database, owner: asyncpg.Connection, account: None
) -> None:
    blocked = replace(HOME, suspended=SuspensionMode.BLOCK)
    async with database.tenant("acme") as connection:
        await move_account(connection, USER, blocked)
    rows = await owner.fetch("SELECT groupname, attribute, op, value FROM radgroupcheck")
    assert [tuple(row) for row in rows] == [(blocked.name, "Auth-Type", ":=", "Reject")]


async def test_move_of_an_account_that_does_not_exist_writes_nothing(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with database.tenant("acme") as connection:
        assert await move_account(connection, USER, HOME) is None
    assert await replies(owner) == []


async def test_changed_template_reaches_every_group_and_a_reset_brings_it_back(
    database: Database, owner: asyncpg.Connection, account: None
) -> None:
    before = await replies(owner)
    async with database.platform() as connection:
        assert await set_templates(connection, {"wispr": FILTER}) == 1
    assert await replies(owner) == [("Filter-Id", ":=", "home")]
    async with database.platform() as connection:
        assert await reset_template(connection, "wispr") == 1
        assert (await read_catalogue(connection)).templates == READY_TEMPLATES
    assert await replies(owner) == before


async def test_template_that_cannot_say_the_rate_of_a_plan_changes_nothing(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with database.tenant("acme") as connection:
        await create_account(connection, "acme", "o1", "S-1", LINE, plan="xgs", download_kbps=8_000_000, upload_kbps=1)
    bits = READY_TEMPLATES["wispr"].model_copy(update={"otherwise": None})
    with pytest.raises(Exception, match=r"Template wispr, in_service, plan xgs-8000000-1: .* does not fit"):
        async with database.platform() as connection:
            await set_templates(connection, {"wispr": bits})
    assert await owner.fetchval("SELECT count(*) FROM radius_templates") == 0


@pytest.mark.parametrize(
    ("otherwise", "reason"),
    [("nobody", "nobody is not a template"), ("plain", "plain names this template again")],
)
async def test_template_with_a_wrong_alternative_is_refused(database: Database, otherwise: str, reason: str) -> None:
    template = FILTER.model_copy(update={"otherwise": otherwise})
    with pytest.raises(InvalidTemplateError, match=reason):
        async with database.platform() as connection:
            await set_templates(connection, {"plain": template})


async def test_added_template_in_use_is_not_removed(database: Database) -> None:
    async with database.platform() as connection:
        await set_templates(connection, {"plain": FILTER})
        await choose_templates(connection, "acme", ["plain"], (None, None))
        await add_nas(connection, NasRecord(address="192.0.2.1", name="bng-1", secret="x", type="plain"))
    with pytest.raises(TemplateInUseError, match="tenant acme, NAS bng-1 use it"):
        async with database.platform() as connection:
            await reset_template(connection, "plain")
    async with database.platform() as connection:
        await choose_templates(connection, "acme", ["wispr"], (None, None))
        await connection.exec_driver_sql("DELETE FROM nas")
        await reset_template(connection, "plain")
        with pytest.raises(UnknownTemplateError, match="There is no template plain"):
            await reset_template(connection, "plain")
