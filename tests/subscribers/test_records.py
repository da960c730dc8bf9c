"""Tests of the records of customers, subscribers and network profiles."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from lastmile.contract.lines import Customer, Line
from lastmile.db import Database, TenantConnection
from lastmile.subscribers.errors import RecordConflictError, UnknownSubscriberError
from lastmile.subscribers.records import (
    CreatedRecord,
    archive_subscriber,
    create_customer,
    create_network_profile,
    create_subscriber,
    delete_customer,
    delete_network_profile,
    delete_subscriber,
    read_line,
    read_subscriber,
    restore_customer,
    update_customer,
)

Act = Callable[..., Coroutine[Any, Any, Any]]


@pytest.fixture
async def subscriber(act: Act, ada: Customer) -> CreatedRecord:
    """Create subscriber S-1 of customer C-1, both by order o1."""
    await act(create_customer, "acme", "o1", ada)
    record: CreatedRecord = await act(create_subscriber, "acme", "o1", "S-1", "C-1")
    return record


# Customers


async def test_create_functions_at_a_second_attempt_return_the_first_record(act: Act, ada: Customer) -> None:
    first = await act(create_customer, "acme", "o1", ada)
    assert first.created_by_order == "o1"
    assert await act(create_customer, "acme", "o1", ada) == first


async def test_create_customer_with_other_values_keeps_the_record(
    act: Act, ada: Customer, owner: asyncpg.Connection
) -> None:
    first = await act(create_customer, "acme", "o1", ada)
    renamed = ada.model_copy(update={"name": "Somebody Else"})
    found = await act(create_customer, "acme", "o2", renamed)
    assert (found.id, found.created_by_order, found.differs_in) == (first.id, "o1", ("name",))
    assert await owner.fetchval("SELECT name FROM customers") == "Ada Lovelace"


async def test_restore_customer_keeps_a_correction_of_another_order(
    act: Act, subscriber: CreatedRecord, owner: asyncpg.Connection
) -> None:
    corrections = {"name": "Ada Byron", "phone": "+44 1"}
    customer_id, before = await act(update_customer, "S-1", corrections)
    await act(update_customer, "S-1", {"name": "Ada King"})
    await act(restore_customer, customer_id, before, corrections)
    assert tuple(await owner.fetchrow("SELECT name, phone FROM customers")) == ("Ada King", "+44 20 7946 0000")


async def test_create_customer_of_another_tenant_creates_another_record(act: Act, ada: Customer) -> None:
    mine = await act(create_customer, "acme", "o1", ada)
    theirs = await act(create_customer, "other", "o1", ada, tenant="other")
    assert mine.id != theirs.id


async def test_delete_customer_of_another_order_changes_nothing(
    act: Act, ada: Customer, owner: asyncpg.Connection
) -> None:
    await act(create_customer, "acme", "o1", ada)
    assert await act(delete_customer, "o2") is False
    assert await owner.fetchval("SELECT count(*) FROM customers") == 1
    assert await act(delete_customer, "o1") is True
    assert await act(delete_customer, "o1") is False
    assert await owner.fetchval("SELECT count(*) FROM customers") == 0


async def test_delete_customer_with_a_later_line_hands_the_record_over(
    act: Act, subscriber: CreatedRecord, owner: asyncpg.Connection
) -> None:
    await act(create_subscriber, "acme", "o2", "S-2", "C-1")
    await act(delete_subscriber, "S-1", "o1")
    assert await act(delete_customer, "o1") is False
    assert await owner.fetchval("SELECT created_by_order FROM customers") == "o2"
    await act(delete_subscriber, "S-2", "o2")
    assert await act(delete_customer, "o2") is True


@pytest.mark.parametrize(("first", "second"), [("o1", "o2"), ("o2", "o1")])
async def test_rollbacks_of_two_lines_side_by_side_leave_no_customer(
    act: Act, subscriber: CreatedRecord, database: Database, owner: asyncpg.Connection, first: str, second: str
) -> None:
    await act(create_subscriber, "acme", "o2", "S-2", "C-1")

    async def roll_back(connection: TenantConnection, order: str) -> None:
        await delete_subscriber(connection, {"o1": "S-1", "o2": "S-2"}[order], order)
        await delete_customer(connection, order)

    async def follow() -> None:
        async with database.tenant("acme") as connection:
            await roll_back(connection, second)

    async with database.tenant("acme") as connection:
        await roll_back(connection, first)
        following = asyncio.create_task(follow())
        waits = (
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not (following.done() or await owner.fetchval(waits)):
            pass
    await following
    assert await owner.fetchval("SELECT count(*) FROM customers") == 0


async def test_delete_customer_waits_for_a_line_that_is_being_added(
    act: Act, ada: Customer, database: Database, owner: asyncpg.Connection
) -> None:
    await act(create_customer, "acme", "o1", ada)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with database.tenant("acme") as connection:
        await create_subscriber(connection, "acme", "o2", "S-2", "C-1")
        undo = asyncio.create_task(act(delete_customer, "o1"))
        while not await owner.fetchval(waiting):  # there is no event to wait for
            pass

    assert await undo is False
    assert await owner.fetchval("SELECT created_by_order FROM customers") == "o2"


# Subscribers


async def test_create_subscriber_again_returns_the_first_record(act: Act, subscriber: CreatedRecord) -> None:
    assert await act(create_subscriber, "acme", "o1", "S-1", "C-1") == subscriber
    assert await act(create_subscriber, "acme", "o2", "S-1", "C-1") == subscriber
    assert await act(read_subscriber, "S-1") == subscriber


async def test_create_subscriber_of_another_customer_is_a_conflict(
    act: Act, subscriber: CreatedRecord, ada: Customer
) -> None:
    await act(create_customer, "acme", "o2", ada.model_copy(update={"ref": "C-2"}))
    with pytest.raises(RecordConflictError, match="subscriber S-1 belongs to customer C-1, not to C-2"):
        await act(create_subscriber, "acme", "o2", "S-1", "C-2")


async def test_create_subscriber_of_a_deleted_customer_is_a_conflict(act: Act) -> None:
    with pytest.raises(RecordConflictError, match="Customer C-9 was deleted while the order ran"):
        await act(create_subscriber, "acme", "o1", "S-1", "C-9")


async def test_delete_subscriber_of_another_order_changes_nothing(act: Act, subscriber: CreatedRecord) -> None:
    assert await act(delete_subscriber, "S-1", "o2") is False
    assert await act(read_subscriber, "S-1") == subscriber
    assert await act(delete_subscriber, "S-1", "o1") is True
    assert await act(delete_subscriber, "S-1", "o1") is False


async def test_delete_subscriber_with_a_line_is_a_conflict(act: Act, subscriber: CreatedRecord, line: Line) -> None:
    await act(create_network_profile, "acme", "o1", subscriber, line)
    with pytest.raises(RecordConflictError, match="Subscriber S-1 still has a network profile or a billing service"):
        await act(delete_subscriber, "S-1", "o1")


async def test_read_subscriber_of_an_unknown_reference_is_refused(act: Act, subscriber: CreatedRecord) -> None:
    with pytest.raises(UnknownSubscriberError, match="Subscriber S-9 does not exist"):
        await act(read_subscriber, "S-9")
    with pytest.raises(UnknownSubscriberError, match="Subscriber S-1 does not exist"):
        await act(read_subscriber, "S-1", tenant="other")


async def test_archive_subscriber_keeps_the_record_and_frees_the_reference(
    act: Act, subscriber: CreatedRecord, owner: asyncpg.Connection
) -> None:
    assert await act(archive_subscriber, "S-1", "o2", "moved away") is True
    assert await act(archive_subscriber, "S-1", "o2", "moved away") is False
    with pytest.raises(UnknownSubscriberError, match="Subscriber S-1 was deprovisioned on 20"):
        await act(read_subscriber, "S-1")
    back = await act(create_subscriber, "acme", "o3", "S-1", "C-1")
    assert back.id != subscriber.id
    assert await act(read_subscriber, "S-1") == back
    old = await owner.fetchrow("SELECT * FROM subscribers WHERE archived_at IS NOT NULL")
    assert (str(old["id"]), old["archived_by_order"], old["archive_reason"]) == (subscriber.id, "o2", "moved away")


# Network profiles


async def test_create_network_profile_stores_the_ordered_values(
    act: Act, subscriber: CreatedRecord, line: Line
) -> None:
    made = await act(create_network_profile, "acme", "o1", subscriber, line)
    assert await act(create_network_profile, "acme", "o2", subscriber, line) == made
    assert await act(read_line, "S-1") == line
    assert await act(read_line, "S-9") is None


async def test_create_network_profile_with_other_values_names_the_fields(
    act: Act, subscriber: CreatedRecord, line: Line
) -> None:
    await act(create_network_profile, "acme", "o1", subscriber, line)
    other = line.model_copy(update={"c_vlan": 8, "pon_port": "1/1/5"})
    with pytest.raises(RecordConflictError, match=r"a network profile with another pon_port, c_vlan"):
        await act(create_network_profile, "acme", "o2", subscriber, other)


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ({"cpe_mac": None}, "line.onu_serial: ONU ABCD00000001 already belongs to subscriber S-1's line"),
        ({"onu_serial": None}, "line.cpe_mac: CPE 00:1a:2b:3c:4d:5e already belongs to subscriber S-1's line"),
        ({}, "line.cpe_serial: CPE 00D09E-HGW%2D1-CPE000001 already belongs to subscriber S-1's line"),
        ({}, "line.duid: DUID 00:03:00:01:00:1a:2b:3c:4d:5e already belongs to subscriber S-1's line"),
    ],
)
async def test_create_network_profile_with_the_device_of_another_line_is_refused(
    act: Act, subscriber: CreatedRecord, line: Line, taken: dict[str, None], words: str
) -> None:
    await act(create_network_profile, "acme", "o1", subscriber, line)
    second = await act(create_subscriber, "acme", "o2", "S-2", "C-1")
    with pytest.raises(RecordConflictError, match=words):
        await act(create_network_profile, "acme", "o2", second, line.model_copy(update=taken))


async def test_create_network_profile_with_another_notation_finds_the_same_onu(
    act: Act, subscriber: CreatedRecord, line: Line
) -> None:
    """The second half of a serial number is hexadecimal, and vendors print the first in capitals (ITU-T G.984.3)."""
    written = line.model_dump() | {"onu_serial": "HWTC0000abcd", "cpe_mac": None}
    await act(create_network_profile, "acme", "o1", subscriber, Line.model_validate(written))
    second = await act(create_subscriber, "acme", "o2", "S-2", "C-1")
    again = Line.model_validate(written | {"onu_serial": "hwtc0000ABCD"})
    with pytest.raises(RecordConflictError, match="ONU HWTC0000ABCD already belongs to subscriber S-1's line"):
        await act(create_network_profile, "acme", "o2", second, again)


BARE: dict[str, Any] = {"connection_type": "ftth", "onu_serial": None, "cpe_mac": None}
PORT = {"olt": "olt-1", "pon_port": "0/1/3", "s_vlan": 100, "c_vlan": 201}
ENFORCED = {"circuit_id": "olt-1 {0}/1", "option82_policy": "enforce"}


async def second_line(
    act: Act, subscriber: CreatedRecord, first: dict[str, Any], second: dict[str, Any]
) -> CreatedRecord:
    """Give S-1 the first line and S-2 the second."""
    await act(create_network_profile, "acme", "o1", subscriber, Line.model_validate(BARE | first))
    other = await act(create_subscriber, "acme", "o2", "S-2", "C-1")
    made: CreatedRecord = await act(create_network_profile, "acme", "o2", other, Line.model_validate(BARE | second))
    return made


ONU = {"onu_serial": "HWTC1A2B3C4D"}
FTTB = ONU | {"connection_type": "fttb"}
CPE = {"cpe_oui": "00D09E", "cpe_serial": "CPE000001"}
CPE_OF_CLASS = CPE | {"cpe_product_class": "HGW-1"}
DUID = {"duid": "00:03:00:01:00:1a:2b:3c:4d:5e"}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (ONU, ONU, "line.onu_serial: ONU HWTC1A2B3C4D already belongs to subscriber S-1's line, and only fttb lines"),
        (ONU, FTTB, "ONU HWTC1A2B3C4D already belongs to subscriber S-1's line"),
        (FTTB, ONU, "ONU HWTC1A2B3C4D already belongs to subscriber S-1's line"),
        (PORT, PORT, "S-VLAN 100 and C-VLAN 201 on port 0/1/3 of OLT olt-1 already belong to subscriber S-1's line"),
        (FTTB | PORT, FTTB | PORT, "line.c_vlan: S-VLAN 100 and C-VLAN 201"),
        (CPE, CPE, "line.cpe_serial: CPE 00D09E-CPE000001 already belongs to subscriber S-1's line"),
        (
            CPE_OF_CLASS | {"cpe_mac": "00:1a:2b:3c:4d:5e"},
            CPE_OF_CLASS,
            "line.cpe_serial: CPE 00D09E-HGW%2D1-CPE000001 already belongs to subscriber S-1's line",
        ),
        (DUID, {"duid": "00030001001A2B3C4D5E"}, "line.duid: DUID 00:03:00:01:00:1a:2b:3c:4d:5e already belongs to"),
        (ENFORCED, ENFORCED, "line.circuit_id: 'olt-1 {0}/1' already belongs to subscriber S-1's line"),
    ],
)
async def test_create_network_profile_with_an_exclusive_resource_is_refused(
    act: Act, subscriber: CreatedRecord, first: dict[str, Any], second: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecordConflictError, match=re.escape(words)):
        await second_line(act, subscriber, first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FTTB, FTTB),
        (PORT, PORT | {"c_vlan": 202}),
        (PORT, PORT | {"pon_port": "0/1/4"}),
        ({"s_vlan": 100, "c_vlan": 201}, {"s_vlan": 100, "c_vlan": 201}),
        (ENFORCED, ENFORCED | {"option82_policy": "log"}),
        (CPE, CPE_OF_CLASS),
        (CPE, CPE | {"cpe_oui": "00D09F"}),
        (CPE, CPE | {"cpe_serial": "CPE000002"}),
        (DUID, {"duid": "00:03:00:01:00:1a:2b:3c:4d:5f"}),
        ({"onu_type": "F660", "speed_profile": "500M"}, {"onu_type": "F660", "speed_profile": "500M"}),
    ],
)
async def test_create_network_profile_with_a_shareable_resource_is_created(
    act: Act, subscriber: CreatedRecord, first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert await second_line(act, subscriber, first, second)


async def test_cpe_of_another_tenant_does_not_conflict(act: Act, subscriber: CreatedRecord, ada: Customer) -> None:
    line = Line.model_validate(BARE | CPE_OF_CLASS | DUID)
    await act(create_network_profile, "acme", "o1", subscriber, line)
    await act(create_customer, "other", "o1", ada, tenant="other")
    theirs = await act(create_subscriber, "other", "o1", "S-1", "C-1", tenant="other")
    assert await act(create_network_profile, "other", "o1", theirs, line, tenant="other")


@pytest.mark.parametrize(
    "cpe",
    [
        {"cpe_mac": "00:1a:2b:3c:4d:5e"},
        CPE,
        CPE_OF_CLASS,
        CPE_OF_CLASS | {"cpe_mac": "00:1a:2b:3c:4d:5e"},
        CPE | {"cpe_product_class": "".join(map(chr, range(33, 97))), "cpe_serial": "".join(map(chr, range(63, 127)))},
        {},
    ],
)
async def test_database_writes_the_identity_of_a_cpe_as_the_contract_does(
    act: Act, subscriber: CreatedRecord, owner: asyncpg.Connection, cpe: dict[str, Any]
) -> None:
    line = Line.model_validate(BARE | cpe)
    await act(create_network_profile, "acme", "o1", subscriber, line)
    written = "SELECT lastmile_cpe_identity(cpe_mac, cpe_oui, cpe_product_class, cpe_serial) FROM network_profiles"
    assert await owner.fetchval(written) == line.cpe_identity


async def test_onu_and_vlans_of_a_removed_line_are_free_again(act: Act, subscriber: CreatedRecord) -> None:
    await act(create_network_profile, "acme", "o1", subscriber, Line.model_validate(BARE | ONU | PORT | ENFORCED))
    await act(delete_network_profile, "S-1", "o1")
    other = await act(create_subscriber, "acme", "o2", "S-2", "C-1")
    assert await act(create_network_profile, "acme", "o2", other, Line.model_validate(BARE | ONU | PORT | ENFORCED))


async def test_lines_without_devices_do_not_conflict(act: Act, subscriber: CreatedRecord) -> None:
    bare = Line(connection_type="wireless")
    await act(create_network_profile, "acme", "o1", subscriber, bare)
    second = await act(create_subscriber, "acme", "o2", "S-2", "C-1")
    await act(create_network_profile, "acme", "o2", second, bare)
    assert await act(read_line, "S-2") == bare


async def test_delete_network_profile_of_another_order_changes_nothing(
    act: Act, subscriber: CreatedRecord, line: Line
) -> None:
    await act(create_network_profile, "acme", "o1", subscriber, line)
    assert await act(delete_network_profile, "S-1", "o2") is False
    assert await act(read_line, "S-1") == line
    assert await act(delete_network_profile, "S-1", "o1") is True
    assert await act(read_line, "S-1") is None


async def test_delete_network_profile_without_an_order_removes_any(
    act: Act, subscriber: CreatedRecord, line: Line
) -> None:
    await act(create_network_profile, "acme", "o1", subscriber, line)
    assert await act(delete_network_profile, "S-1") is True
    assert await act(delete_network_profile, "S-1") is False
