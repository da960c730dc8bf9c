"""Tests of accounts in FreeRADIUS's tables after each step and each undo."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lastmile.contract.lines import Line, Reference, TenantId
from lastmile.db import Database
from lastmile.radius.accounts import (
    block_account,
    create_account,
    delete_account,
    unblock_account,
)
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.logins import username
from lastmile.radius.passwords import read_password
from lastmile.radius.reply_items import remove_reply_items, write_reply_items

Act = Callable[..., Awaitable[Any]]
PPPOE = Line(connection_type="ftth")
USER = "S-1@acme.lastmile"
PLAN = {"plan": "fiber-500", "download_kbps": 500_000, "upload_kbps": 100_000}
GROUP = "fiber-500-500000-100000@acme.lastmile"


@pytest.fixture
def act(database: Database) -> Act:
    """Return `act(function, *arguments)`, which runs the function in a transaction of tenant acme."""

    async def in_transaction(function: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        async with database.tenant("acme") as connection:
            return await function(connection, *arguments, **named)

    return in_transaction


async def create(act: Act, order: str = "o1", ref: str = "S-1", line: Line = PPPOE, **plan: Any) -> str:
    account = await act(create_account, "acme", order, ref, line, **(PLAN | plan))
    return str(account.created_by_order)


async def items(owner: asyncpg.Connection, table: str) -> list[tuple[str, ...]]:
    columns = "username, groupname" if table == "radusergroup" else "*"
    rows = await owner.fetch(f"SELECT {columns} FROM {table} ORDER BY id")
    keys = ("username", "groupname", "attribute", "op", "value")
    return [tuple(row[key] for key in keys if key in row) for row in map(dict, rows)]


async def test_create_account_writes_the_password_and_the_rates_of_the_plan(
    act: Act, owner: asyncpg.Connection
) -> None:
    assert await create(act) == "o1"
    password = await act(read_password, USER)
    assert len(password) >= 20
    assert await items(owner, "radcheck") == [(USER, "Cleartext-Password", ":=", password)]
    assert await items(owner, "radusergroup") == [(USER, GROUP)]
    assert await items(owner, "radgroupreply") == [
        (GROUP, "WISPr-Bandwidth-Max-Down", ":=", "500000000"),
        (GROUP, "WISPr-Bandwidth-Max-Up", ":=", "100000000"),
    ]
    assert await items(owner, "radreply") == []


async def test_create_account_with_an_xgs_pon_plan_writes_its_rates_in_kbit(
    act: Act, owner: asyncpg.Connection
) -> None:
    await create(act, plan="xgs-8000", download_kbps=8_000_000, upload_kbps=8_000_000)
    group = "xgs-8000-8000000-8000000@acme.lastmile"
    assert await items(owner, "radgroupreply") == [
        (group, "ChilliSpot-Bandwidth-Max-Down", ":=", "8000000"),
        (group, "ChilliSpot-Bandwidth-Max-Up", ":=", "8000000"),
    ]


async def test_create_account_again_keeps_the_password(act: Act, owner: asyncpg.Connection) -> None:
    await create(act)
    password = await act(read_password, USER)
    for order in ("o1", "o2"):
        assert await create(act, order) == "o1"
        assert await act(read_password, USER) == password
    assert len(await items(owner, "radcheck")) == len(await items(owner, "radusergroup")) == 1


async def test_create_account_of_two_lines_generates_two_passwords(act: Act) -> None:
    for ref in ("S-1", "S-2"):
        await create(act, ref=ref)
    assert await act(read_password, USER) != await act(read_password, "S-2@acme.lastmile")


async def test_create_account_of_lines_with_one_plan_shares_the_group(act: Act, owner: asyncpg.Connection) -> None:
    await create(act, ref="S-1")
    await create(act, ref="S-2")
    assert len(await items(owner, "radgroupreply")) == 2
    await create(act, ref="S-3", download_kbps=1_000_000)
    assert len(await items(owner, "radgroupreply")) == 4, "a plan of other rates is another group"


async def test_another_plan_is_a_conflict(act: Act) -> None:
    await create(act)
    with pytest.raises(
        AccountConflictError,
        match=r"plan: account S-1@acme\.lastmile is in group fiber-\S+, not in slow-",
    ):
        await create(act, "o2", plan="slow")


async def test_create_account_in_the_realm_of_another_tenant_is_refused(database: Database) -> None:
    with pytest.raises(Exception, match="row-level security"):
        async with database.tenant("other") as connection:
            await create_account(connection, "acme", "o1", "S-1", PPPOE, **PLAN)  # type: ignore[arg-type]


# Blocked


async def test_block_account_keeps_the_password_and_rejects_logins(act: Act, owner: asyncpg.Connection) -> None:
    await create(act)
    password = await act(read_password, USER)
    for _ in range(2):
        await act(block_account, USER)
    assert await items(owner, "radcheck") == [
        (USER, "Cleartext-Password", ":=", password),
        (USER, "Auth-Type", ":=", "Reject"),
    ]
    assert await act(read_password, USER) == password


async def test_unblock_account_after_a_block_allows_logins(act: Act, owner: asyncpg.Connection) -> None:
    await create(act)
    await act(block_account, USER)
    await act(unblock_account, USER)
    assert [attribute for _, attribute, _, _ in await items(owner, "radcheck")] == ["Cleartext-Password"]


async def test_unblock_account_with_a_block_of_an_operator_keeps_it(act: Act, owner: asyncpg.Connection) -> None:
    await create(act)
    await owner.execute(
        "INSERT INTO radcheck (username, attribute, op, value) VALUES ($1, 'Auth-Type', ':=', 'Reject')", USER
    )
    await act(unblock_account, USER)
    assert len(await items(owner, "radcheck")) == 2


async def test_block_account_of_another_order_changes_nothing(act: Act, owner: asyncpg.Connection) -> None:
    await create(act)
    await act(block_account, USER, "o2")
    assert len(await items(owner, "radcheck")) == 1
    await act(block_account, USER, "o1")
    assert len(await items(owner, "radcheck")) == 2


async def test_block_account_without_an_account_changes_nothing(act: Act, owner: asyncpg.Connection) -> None:
    await act(block_account, USER)
    assert await items(owner, "radcheck") == []


# Deleted


@pytest.mark.parametrize("order", [None, "o1"])
async def test_delete_account_leaves_only_the_group_of_the_plan(
    act: Act, owner: asyncpg.Connection, order: str | None
) -> None:
    await create(act)
    await create(act, ref="S-2")
    await act(write_reply_items, USER, [("Delegated-IPv6-Prefix", "2001:db8::/56")])
    await act(block_account, USER)
    assert await act(delete_account, USER, order) is True
    assert await act(delete_account, USER, order) is False
    assert [user for user, *_ in await items(owner, "radcheck")] == ["S-2@acme.lastmile"]
    assert await items(owner, "radreply") == []
    assert await items(owner, "radusergroup") == [("S-2@acme.lastmile", GROUP)]
    assert len(await items(owner, "radgroupreply")) == 2
    assert await act(read_password, USER) is None


async def test_delete_account_of_another_order_changes_nothing(act: Act, owner: asyncpg.Connection) -> None:
    await create(act)
    await act(write_reply_items, USER, [("Delegated-IPv6-Prefix", "2001:db8::/56")])
    before = [await items(owner, table) for table in ("radcheck", "radreply", "radusergroup")]
    assert await act(delete_account, USER, "o2") is False
    assert [await items(owner, table) for table in ("radcheck", "radreply", "radusergroup")] == before


# Reply items


async def test_write_reply_items_replaces_earlier_values(act: Act, owner: asyncpg.Connection) -> None:
    await act(write_reply_items, USER, [("Delegated-IPv6-Prefix", "2001:db8::/56"), ("Framed-IP-Address", "192.0.2.7")])
    for _ in range(2):
        await act(write_reply_items, USER, [("Delegated-IPv6-Prefix", "2001:db8:1::/56")])
    assert set(await items(owner, "radreply")) == {
        (USER, "Delegated-IPv6-Prefix", ":=", "2001:db8:1::/56"),
        (USER, "Framed-IP-Address", ":=", "192.0.2.7"),
    }


async def test_remove_reply_items_removes_exactly_the_given_values(act: Act, owner: asyncpg.Connection) -> None:
    """A late undo must not remove the prefix that was assigned since."""
    await act(
        write_reply_items, USER, [("Delegated-IPv6-Prefix", "2001:db8:1::/56"), ("Framed-IP-Address", "192.0.2.7")]
    )
    await act(
        remove_reply_items, USER, [("Delegated-IPv6-Prefix", "2001:db8::/56"), ("Framed-IP-Address", "192.0.2.7")]
    )
    assert await items(owner, "radreply") == [(USER, "Delegated-IPv6-Prefix", ":=", "2001:db8:1::/56")]


# Names

REFUSED_BY_FREERADIUS = {
    "whitespace": r"\s",
    "several @": r"@[^@]*@",
    "double dots": r"\.\.",
    "a dot at the end": r"\.$",
    "a dot at the beginning of the realm": r"@\.",
}
"""The rules of `filter_username` in FreeRADIUS 3.2's policy.d/filter."""


def of(kind: Any) -> st.SearchStrategy[str]:
    """Return a strategy for every text that the model accepts, from its own pattern."""
    pattern, longest = {
        Reference: (r"[A-Za-z0-9](\.?[A-Za-z0-9_-])*", 64),
        TenantId: (r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", 32),
    }[kind]
    texts = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(lambda text: len(text) <= longest)
    return texts.map(TypeAdapter(kind).validate_python)


@settings(max_examples=200, deadline=None)
@given(tenant=of(TenantId), ref=of(Reference))
def test_username_of_any_subscriber_passes_freeradius_filter(tenant: str, ref: str) -> None:
    name = username(tenant, ref)
    assert [why for why, pattern in REFUSED_BY_FREERADIUS.items() if re.search(pattern, name)] == []
    assert re.search(r"@(.+)\.(.+)$", name), "the realm needs a dot"
    assert name.partition("@")[2].split(".")[0] == tenant, "row-level security reads the tenant off the realm"
