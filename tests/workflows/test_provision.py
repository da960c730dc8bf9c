"""Provision orders: the records that they create, and their results."""

import asyncio
import base64
import re
from ipaddress import IPv6Network
from typing import Any

import asyncpg
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client

from lastmile.client.orders import Lastmile, OrderRefusedError
from lastmile.contract import Created, ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.contract.operations import PROVISION
from lastmile.db import Database
from lastmile.subscribers.orders import read_ended_orders
from tests.support.faults import Faults, broken, once
from tests.support.orders import Orders, outcomes, what_is_there

DONE = {step.name: "done" for step in PROVISION.steps} | {"activate_onu": "skipped", "configure_cpe": "skipped"}


async def test_provision_creates_a_line_in_service(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.COMPLETED
    assert outcomes(result) == DONE
    assert result.warnings == []
    created = result.created
    user = f"{orders.ref}@acme.lastmile"
    assert created.radius_username == user
    assert created.ipv6_prefix is not None
    assert IPv6Network(created.ipv6_prefix).subnet_of(IPv6Network("2001:db8::/40"))
    assert created.ipv6_prefix.endswith("/56")
    assert created.ipv4_address is None
    for table, field in {
        "customers": created.customer_id,
        "subscribers": created.subscriber_id,
        "network_profiles": created.network_profile_id,
        "billing_services": created.billing_service_id,
    }.items():
        assert [str(row["id"]) for row in await owner.fetch(f"SELECT id FROM {table}")] == [field]
    assert [tuple(row) for row in await owner.fetch("SELECT username, attribute, op, value FROM radreply")] == [
        (user, "Delegated-IPv6-Prefix", ":=", created.ipv6_prefix)
    ]
    events = await owner.fetch("SELECT from_state, to_state, order_id FROM delegation_events ORDER BY id")
    assert [tuple(event) for event in events] == [("pending", "allocated", "O-1"), ("allocated", "active", "O-1")]
    order = await owner.fetchrow("SELECT * FROM orders")
    assert (order["status"], order["finished_at"] is not None) == ("completed", True)


async def test_provision_with_every_reply_lost_once_completes(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    """Each step does its work, its reply is lost, and the step runs again."""
    faults.after = {step.name: once(broken) for step in PROVISION.steps}

    result = await lastmile.execute(orders.provision())

    assert outcomes(result) == DONE
    assert {step.attempts for step in result.steps} == {2}
    assert {table: len(rows) for table, rows in (await what_is_there(owner)).items() if rows} == {
        "customers": 1,
        "subscribers": 1,
        "network_profiles": 1,
        "billing_services": 1,
        "devices": 2,
        "radcheck": 1,
        "radreply": 1,
        "radusergroup": 1,
        "held delegations": 1,
        "taken slots": 1,
    }
    assert await owner.fetchval("SELECT count(*) FROM billing_events") == 1
    assert await owner.fetchval("SELECT count(*) FROM delegation_events") == 2


async def test_repeated_provision_returns_the_same_result(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    first = await lastmile.execute(orders.provision())
    before, ran = await what_is_there(owner), faults.ran.copy()

    again = await lastmile.execute(orders.provision())

    assert again == first
    assert await what_is_there(owner) == before
    assert faults.ran - ran == {"open_order": 1}


async def test_result_remains_after_the_run_is_deleted(
    lastmile: Lastmile, orders: Orders, client: Client, temporal_client: Client
) -> None:
    """Temporal deletes a run after its retention time. The order's row stays."""
    first = await lastmile.execute(orders.provision())
    run = await temporal_client.get_workflow_handle(orders.provision().workflow_id).describe()
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run.id, run_id=run.run_id),
        )
    )

    assert await lastmile.execute(orders.provision()) == first


async def test_order_id_with_other_content_is_refused(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)

    with pytest.raises(OrderRefusedError, match=r"O-1 was used on .* for another provision"):
        await lastmile.execute(orders.provision(addressing=Addressing(ipv6_pd_size=48)))
    with pytest.raises(OrderRefusedError, match=r"O-1 was used on .* for another provision"):
        await lastmile.execute(orders.deprovision("O-1"))

    assert await what_is_there(owner) == before


async def test_order_of_an_unknown_tenant_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    with pytest.raises(OrderRefusedError, match="Tenant nobody does not exist"):
        await lastmile.execute(orders.provision(tenant="nobody"))


async def test_second_line_shares_the_customer(lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection) -> None:
    first = await lastmile.execute(orders.provision("O-1"))
    second = await lastmile.execute(orders.provision("O-2", nth=1))

    assert second.status is ResultStatus.COMPLETED
    assert second.created.customer_id == first.created.customer_id
    assert second.created.ipv6_prefix != first.created.ipv6_prefix
    assert second.steps[0].reason == "customer C-1 exists since order O-1"
    assert await owner.fetchval("SELECT count(*) FROM subscribers") == 2


async def test_new_order_for_a_line_in_service_changes_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    first = await lastmile.execute(orders.provision("O-1"))
    before = await what_is_there(owner)

    second = await lastmile.execute(orders.provision("O-2"))

    assert (second.status, second.created) == (ResultStatus.COMPLETED, first.created)
    assert await what_is_there(owner) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"customer": {"ref": "C-2", "name": "Bob"}}, ["customer.ref: the line belongs to customer C-1"]),
        (
            {"customer": {"ref": "C-1", "name": "Bob", "phone": "+49 30 1"}},
            ["customer.name: the record of customer C-1 has another value", "customer.phone: "],
        ),
        ({"addressing": {"ipv6_pd_size": 48}}, ["addressing.ipv6_pd_size: the line has 2001:db8:", "asks for a /48"]),
        (
            {"addressing": {"enable_ipv6": False}},
            ["addressing.enable_ipv6: the line has a delegated IPv6 prefix (2001"],
        ),
        (
            {"addressing": {"ipv6_mode": "slaac"}},
            ["addressing.ipv6_mode: the line has a delegated", "a WAN IPv6 prefix"],
        ),
        (
            {"addressing": {"ipv6_pool": "other"}},
            ["addressing.ipv6_pool: the line's prefix is from pool home, but the order names other"],
        ),
        ({"addressing": {"region": "north"}}, ["addressing.region: "]),
        (
            {"addressing": {"ipv4_mode": "static"}},
            ["addressing.ipv4_mode: the order asks for a static IPv4 address, the line has none"],
        ),
        (
            {"plan": {"name": "fiber-1000", "download_kbps": 10**6, "upload_kbps": 250_000}},
            [
                "plan.name: the line has fiber-500, but the order has fiber-1000",
                "plan.price_ref: the line has P-500, but the order has none",
                "plan.download_kbps: the line has 500000, but the order has 1000000",
            ],
        ),
        (
            {"line": {"connection_type": "ftth", "s_vlan": 7}},
            ["line.onu_serial: the line has ACME00000000, but the order has none", "line.s_vlan: the line has 100"],
        ),
        (
            {"line": {"connection_type": "ftth", "onu_type": "F660", "duid": "000300011a"}},
            [
                "line.onu_type: the line has none, but the order has F660",
                "line.duid: the line has none, but the order has 00:03:00:01:1a",
            ],
        ),
    ],
)
async def test_order_that_differs_from_the_live_line_names_each_difference(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, changes: dict[str, Any], words: list[str]
) -> None:
    await lastmile.execute(orders.provision("O-1"))
    before = await what_is_there(owner)

    with pytest.raises(OrderRefusedError) as refusal:
        await lastmile.execute(orders.provision("O-2", **changes))

    assert [word for word in words if word not in str(refusal.value)] == []
    assert "Bob" not in str(refusal.value)
    assert await what_is_there(owner) == before
    assert await owner.fetchval("SELECT count(*) FROM orders") == 1


async def test_order_without_the_ipv4_address_of_the_live_line_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    addressing = Addressing(ipv6_mode="dual_stack", ipv4_mode="static")
    first = await lastmile.execute(orders.provision("O-1", addressing=addressing))

    with pytest.raises(OrderRefusedError, match=r"addressing.ipv4_mode: the line has a static IPv4 address"):
        await lastmile.execute(orders.provision("O-2"))

    again = await lastmile.execute(orders.provision("O-3", addressing=addressing))
    assert again.created == first.created


async def test_order_allocates_what_the_live_line_has_lost(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """The loss is an audit finding, which a repeated order repairs."""
    await lastmile.execute(orders.provision("O-1"))
    await owner.execute("UPDATE slots SET delegation_id = NULL WHERE delegation_id IS NOT NULL")
    await owner.execute("UPDATE delegations SET state = 'revoked', released_at = now()")

    result = await lastmile.execute(orders.provision("O-2"))

    assert result.status is ResultStatus.COMPLETED
    assert result.created.ipv6_prefix is not None


async def test_order_with_another_customer_name_adds_a_note(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision("O-1"))

    customer = {"ref": "C-1", "name": "Ada Lovelace"}
    result = await lastmile.execute(orders.provision("O-2", nth=1, customer=customer))

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert result.notes == ["customer.name: customer C-1 exists with another name, which the order did not change"]
    assert await owner.fetchval("SELECT name FROM customers") == "Ada Example"


async def test_result_of_a_line_deprovisioned_since_is_marked_outdated(
    lastmile: Lastmile, orders: Orders, database: Database
) -> None:
    first = await lastmile.execute(orders.provision("O-1"))
    assert (await lastmile.execute(orders.provision("O-1"))).outdated == ""
    await lastmile.execute(orders.deprovision("O-2"))

    again = await lastmile.execute(orders.provision("O-1"))

    assert again.outdated.startswith("this result is older than deprovision order O-2 (completed, begun on ")
    assert again == first.model_copy(update={"outdated": again.outdated})
    async with database.platform() as connection:
        found = await read_ended_orders(connection, [("acme", "O-1"), ("acme", "O-2")])
    assert found["acme", "O-1"].outdated == again.outdated
    assert found["acme", "O-2"].outdated == ""


async def test_onu_of_another_line_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    first = orders.provision("O-1")
    await lastmile.execute(first)

    result = await lastmile.execute(orders.provision("O-2", nth=1, line=first.line))

    assert result.status is ResultStatus.ROLLED_BACK
    assert f"ONU ACME00000000 already belongs to subscriber {orders.ref}'s line" in result.reason


async def test_dual_stack_order_gets_the_static_ipv4_address(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    addressing = Addressing(
        ipv6_mode="dual_stack", ipv6_pd_size=48, ipv4_mode="static", ipv4_address="198.51.100.2", ipv4_pool="static"
    )
    result = await lastmile.execute(orders.provision(addressing=addressing))

    assert result.created.ipv4_address == "198.51.100.2"
    assert result.created.ipv6_prefix is not None
    assert result.created.ipv6_prefix.endswith("/48")
    replies = await owner.fetch("SELECT attribute, value FROM radreply ORDER BY attribute")
    assert [tuple(reply) for reply in replies] == [
        ("Delegated-IPv6-Prefix", result.created.ipv6_prefix),
        ("Framed-IP-Address", "198.51.100.2"),
    ]


async def test_order_without_addresses_skips_the_address_steps(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    result = await lastmile.execute(orders.provision(addressing=Addressing(enable_ipv6=False)))

    assert result.status is ResultStatus.COMPLETED
    skipped = {"allocate_ip_address": "skipped", "activate_ipv6_lifecycle": "skipped"}
    assert outcomes(result) == DONE | skipped
    assert {step.reason for step in result.steps if step.step == "allocate_ip_address"} == {
        "the order asks for no address"
    }
    assert await owner.fetchval("SELECT count(*) FROM radreply") == 0


async def test_order_from_an_exhausted_pool_is_rolled_back_and_names_it(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """Three orders compete for two prefixes."""
    lines = [orders.provision(f"O-{n}", nth=n, tenant="other") for n in range(1, 4)]

    results = await asyncio.gather(*(lastmile.execute(order) for order in lines))

    assert sorted(result.status for result in results) == ["completed", "completed", "rolled_back"]
    failed = next(result for result in results if result.status is ResultStatus.ROLLED_BACK)
    assert "Cannot allocate a /56 from pool tiny (2001:db8:200::/55)" in failed.reason
    assert failed.created == Created()
    there = await what_is_there(owner)
    assert {
        table: len(rows) for table, rows in there.items() if table.startswith(("subscribers", "held", "taken"))
    } == {
        "subscribers": 2,
        "held delegations": 2,
        "taken slots": 2,
    }


async def test_history_never_contains_the_password(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, temporal_client: Client
) -> None:
    await lastmile.execute(orders.provision())

    password = await owner.fetchval("SELECT value FROM radcheck")
    history = await temporal_client.get_workflow_handle(orders.provision().workflow_id).fetch_history()
    assert orders.ref in history.to_json()
    assert password not in history.to_json()
    assert not any(
        password in base64.b64decode(data).decode() for data in re.findall('"data": "(.*?)"', history.to_json())
    )


async def test_opening_whose_replies_are_lost_for_long_ends_completed(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    """The first attempt may have done the first steps, so the run does not end before the database answers."""
    lost = 0

    async def lose() -> None:
        nonlocal lost
        lost += 1
        if lost <= 35:
            await broken()

    faults.after["open_order"] = lose

    result = await lastmile.execute(orders.provision())

    assert (result.status, lost) == (ResultStatus.COMPLETED, 36)
