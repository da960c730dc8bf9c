"""An enumeration is defined once in Python; the check of its column, and the functions of the schema, say the same."""

import re
from enum import StrEnum
from pathlib import Path

import asyncpg
import pytest

from ipam.allocation_key import AllocationKey
from ipam.lifecycle import State
from ipam.modes import AllocationMode, OnRelease, ReportingScope
from ipam.netbox.delegated.blocks import BlockState
from lastmile.contract.addressing import Purpose
from lastmile.contract.operations import LineEffect
from lastmile.contract.orders import Urgency
from lastmile.radius.logins import username
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES
from lastmile.services.api_keys import PrincipalKind
from lastmile.services.hooks.events import HookEventState
from lastmile.subscribers.accepted_orders import AcceptedState, WhenBusy
from lastmile.subscribers.orders import OrderStatus

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("table", "column", "enumeration"),
    [
        ("orders", "effect", LineEffect),
        ("orders", "status", OrderStatus),
        ("accepted_orders", "state", AcceptedState),
        ("accepted_orders", "urgency", Urgency),
        ("orders", "urgency", Urgency),
        ("accepted_orders", "when_busy", WhenBusy),
        ("pools", "purpose", Purpose),
        ("pools", "mode", AllocationMode),
        ("pools", "netbox_release", OnRelease),
        ("pools", "netbox_record", ReportingScope),
        ("delegations", "state", State),
        ("netbox_blocks", "state", BlockState),
        ("api_keys", "kind", PrincipalKind),
        ("hook_events", "state", HookEventState),
    ],
)
async def test_column_check_allows_exactly_the_values_of_its_enumeration(
    owner: asyncpg.Connection, table: str, column: str, enumeration: type[StrEnum]
) -> None:
    check = await owner.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::regclass AND conname = $2",
        table,
        f"{table}_{column}_check",
    )
    assert set(re.findall(r"'(\w+)'", check)) == set(enumeration)


@pytest.mark.parametrize(
    ("function", "statuses"),
    [
        ("lastmile_order_unfinished", {OrderStatus.RUNNING, OrderStatus.ROLLING_BACK}),
        ("lastmile_order_completed", {OrderStatus.COMPLETED, OrderStatus.DEGRADED}),
        ("lastmile_order_rolled_back", {OrderStatus.ROLLED_BACK, OrderStatus.PARTLY_ROLLED_BACK}),
    ],
)
async def test_function_of_the_schema_holds_for_exactly_its_statuses(
    owner: asyncpg.Connection, function: str, statuses: set[OrderStatus]
) -> None:
    rows = await owner.fetch(f"SELECT status FROM unnest($1::text[]) status WHERE {function}(status)", [*OrderStatus])
    assert {row["status"] for row in rows} == statuses


async def test_query_for_unfinished_orders_uses_their_index(owner: asyncpg.Connection) -> None:
    await owner.execute("SET enable_seqscan = off")
    plan = await owner.fetch(
        "EXPLAIN SELECT tenant_id, min(created_at) FROM orders WHERE lastmile_order_unfinished(status) GROUP BY 1"
    )
    assert any("orders_open" in row[0] for row in plan), plan


async def test_radius_username_in_sql_is_the_username_in_python(owner: asyncpg.Connection) -> None:
    written = await owner.fetchval("SELECT lastmile_radius_username('S-1', 'acme')")
    assert written == username("acme", "S-1") == "S-1@acme.lastmile"


async def test_holder_in_sql_is_the_holder_of_the_allocation_key(owner: asyncpg.Connection) -> None:
    key = AllocationKey("acme", "S-1", Purpose.IPV6_PD, "O-1")
    assert await owner.fetchval("SELECT lastmile_holder('acme', 'S-1', 'ipv6_pd')") == key.holder


async def test_reply_attribute_in_sql_is_the_attribute_of_each_purpose(owner: asyncpg.Connection) -> None:
    statement = "SELECT purpose, lastmile_reply_attribute(purpose) FROM unnest($1::text[]) purpose"
    rows = await owner.fetch(statement, [*Purpose])
    assert dict(rows) == REPLY_ATTRIBUTES


@pytest.mark.parametrize(
    "written",
    [
        r"\|\| '\.lastmile'",
        r"split_part\(\w*key",
        "'running', 'rolling_back'",
        "'completed', 'degraded'",
        "'rolled_back', 'partly_rolled_back'",
    ],
)
def test_no_other_sql_says_what_a_function_of_the_schema_says(written: str) -> None:
    defined = {ROOT / "lastmile/db/migrations/initial", ROOT / "lastmile/subscribers/orders.py"}
    sources = [
        path
        for package in ("ipam", "lastmile", "activities", "workflows")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".sql") and not defined & {path, *path.parents}
    ]
    assert [str(path) for path in sources if re.search(written, path.read_text(encoding="utf-8"))] == []
