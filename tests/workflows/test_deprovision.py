"""Deprovision orders, and later provisions of the same subscriber."""

import asyncpg

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.contract.operations import DEPROVISION
from tests.support.faults import Faults, broken, once, refused
from tests.support.orders import Orders, outcomes, what_is_there

DONE = {step.name: "done" for step in DEPROVISION.steps} | {"deactivate_onu": "skipped", "unconfigure_cpe": "skipped"}


async def test_deprovision_terminates_the_service(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    provisioned = await lastmile.execute(orders.provision())

    result = await lastmile.execute(orders.deprovision())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert outcomes(result) == DONE
    assert result.created.ipv6_prefix == provisioned.created.ipv6_prefix
    there = await what_is_there(owner)
    assert [table for table, rows in there.items() if rows] == [
        "customers",
        "subscribers",
        "billing_services",
        "devices",
    ]
    subscriber = await owner.fetchrow("SELECT archived_by_order, archive_reason FROM subscribers")
    assert tuple(subscriber) == ("O-9", "moved away")
    states = await owner.fetch("SELECT to_state FROM delegation_events ORDER BY id")
    assert [state[0] for state in states] == ["allocated", "active", "revoking", "revoked"]
    billed = await owner.fetch("SELECT event FROM billing_events ORDER BY id")
    assert [event[0] for event in billed] == ["started", "suspended", "ended"]
    assert await owner.fetchval("SELECT bool_or(in_service) FROM devices") is False
    rest = await owner.fetchval("SELECT extract(epoch FROM free_at - now()) FROM slots WHERE last_holder IS NOT NULL")
    assert 3500 < rest <= 3600


async def test_deprovision_with_every_reply_lost_once_completes(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    faults.after = {step.name: once(broken) for step in DEPROVISION.steps}

    result = await lastmile.execute(orders.deprovision())

    assert result.status is ResultStatus.COMPLETED
    assert {step.attempts for step in result.steps} == {2}
    assert await owner.fetchval("SELECT count(*) FROM delegation_events") == 4
    assert await owner.fetchval("SELECT count(*) FROM billing_events") == 3
    assert await owner.fetchval("SELECT count(*) FROM radcheck") == 0


async def test_repeated_deprovision_returns_the_same_result(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    first = await lastmile.execute(orders.deprovision())
    before = await what_is_there(owner)

    assert await lastmile.execute(orders.deprovision()) == first
    assert await what_is_there(owner) == before


async def test_returning_subscriber_gets_the_same_addresses(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """The quarantine withholds the addresses from other subscribers only (RIPE-690: persistent prefixes)."""
    addressing = Addressing(ipv6_mode="dual_stack", ipv4_mode="static")
    first = await lastmile.execute(orders.provision("O-1", addressing=addressing))
    await lastmile.execute(orders.deprovision("O-2"))
    other = await lastmile.execute(orders.provision("O-3", 1))

    second = await lastmile.execute(orders.provision("O-4", addressing=addressing))

    assert second.status is ResultStatus.COMPLETED
    assert second.created.ipv6_prefix == first.created.ipv6_prefix != other.created.ipv6_prefix
    assert second.created.ipv4_address == first.created.ipv4_address is not None
    assert second.created.subscriber_id != first.created.subscriber_id
    assert await owner.fetchval("SELECT count(*) FROM delegations") == 5


async def test_deprovision_without_addresses_skips_the_release(lastmile: Lastmile, orders: Orders) -> None:
    await lastmile.execute(orders.provision(addressing=Addressing(enable_ipv6=False)))

    result = await lastmile.execute(orders.deprovision())

    assert result.status is ResultStatus.COMPLETED
    assert outcomes(result)["release_ip_address"] == "skipped"


async def test_deprovision_of_an_unknown_subscriber_is_rolled_back(lastmile: Lastmile, orders: Orders) -> None:
    never = await lastmile.execute(orders.deprovision("O-1"))
    await lastmile.execute(orders.provision("O-2"))
    await lastmile.execute(orders.deprovision("O-3"))
    twice = await lastmile.execute(orders.deprovision("O-4"))

    assert (never.status, twice.status) == (ResultStatus.ROLLED_BACK, ResultStatus.ROLLED_BACK)
    assert f"Subscriber {orders.ref} does not exist" in never.reason
    assert f"Subscriber {orders.ref} was deprovisioned on" in twice.reason


async def test_failed_provision_of_an_archived_line_changes_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lastmile.execute(orders.provision("O-1"))
    await lastmile.execute(orders.deprovision("O-2"))
    before = await what_is_there(owner)
    faults.after["create_billing_service"] = refused

    result = await lastmile.execute(orders.provision("O-3"))

    assert result.status is ResultStatus.ROLLED_BACK
    after = await what_is_there(owner)
    assert not await owner.fetchval("SELECT bool_or(in_service) FROM devices")
    assert after | {"devices": before["devices"]} == before
