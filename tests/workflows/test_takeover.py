"""A run that was terminated without an undo: the next run takes over what it left."""

import asyncio

import asyncpg
import pytest

from lastmile.client.orders import Lastmile, RunLostError
from lastmile.contract import AnyOrder, Decision, ResultStatus
from lastmile.contract.lines import Customer, Line
from tests.support.faults import Faults, Gate, broken, once, refused
from tests.support.orders import Orders, outcomes, parked, what_is_there
from workflows.saga import LATE_CANCEL

DEVICES = "devices"
# Seconds until a test fails whose run would otherwise stay parked for ever.
PATIENCE = 30


async def lost(lastmile: Lastmile, order: AnyOrder, faults: Faults, step: str) -> None:
    """Run the order up to this step, and terminate it there. The step does not happen."""
    gate = Gate()

    async def stopped() -> None:
        await gate()
        await refused()

    faults.before[(order.order_id, step)] = stopped
    run = await lastmile.start(order)
    await gate.reached.wait()
    await run.handle.terminate("by the test")
    gate.open()
    with pytest.raises(RunLostError):
        await run.result()
    del faults.before[(order.order_id, step)]


@pytest.mark.parametrize("refused_at", ["create_customer", "create_subscriber", "configure_cpe"])
async def test_repeated_order_undoes_the_work_of_its_lost_run(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, refused_at: str
) -> None:
    nothing = await what_is_there(owner)
    await lost(lastmile, orders.provision(), faults, "activate_onu")
    faults.before[("O-1", refused_at)] = refused
    result = await lastmile.execute(orders.provision())
    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == nothing


@pytest.mark.parametrize("refused_at", ["create_customer", "allocate_ip_address", "create_billing_service"])
async def test_next_order_undoes_the_work_that_it_took_over(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, refused_at: str
) -> None:
    nothing = await what_is_there(owner)
    await lost(lastmile, orders.provision(), faults, "activate_onu")
    faults.before[("O-2", refused_at)] = refused
    result = await lastmile.execute(orders.provision("O-2"))
    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == nothing


@pytest.mark.parametrize("fails", [False, True], ids=["completed", "rolled back"])
async def test_next_order_deletes_the_customer_of_a_lost_order_for_another_customer(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, fails: bool
) -> None:
    await lost(lastmile, orders.provision(customer=Customer(ref="C-2", name="Grace")), faults, "create_subscriber")
    assert await owner.fetchval("SELECT array_agg(ref) FROM customers") == ["C-2"]
    if fails:
        faults.before[("O-2", "create_billing_service")] = refused

    result = await lastmile.execute(orders.provision("O-2"))

    assert result.status is (ResultStatus.ROLLED_BACK if fails else ResultStatus.COMPLETED)
    assert await owner.fetchval("SELECT array_agg(ref) FROM customers") == (None if fails else ["C-1"])


async def test_provision_after_a_lost_deprovision_resumes_billing(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lost(lastmile, orders.deprovision(), faults, "deactivate_onu")
    result = await lastmile.execute(orders.provision("O-2"))
    assert result.status is ResultStatus.COMPLETED
    assert await owner.fetchval("SELECT status FROM billing_services") == "active"
    assert await owner.fetchval("SELECT event FROM billing_events ORDER BY id DESC LIMIT 1") == "resumed"


@pytest.mark.parametrize("again", ["O-9", "O-10"])
@pytest.mark.parametrize("lost_at", ["deactivate_onu", "release_ip_address", "delete_network_profile"])
async def test_lost_deprovision_past_its_pivot_only_goes_forward(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, lost_at: str, again: str
) -> None:
    await lastmile.execute(orders.provision())
    await lost(lastmile, orders.deprovision(), faults, lost_at)
    faults.before[(again, "unconfigure_cpe")] = refused
    run = await lastmile.start(orders.deprovision(again))
    await parked(run)
    del faults.before[(again, "unconfigure_cpe")]
    await lastmile.decide("acme", orders.ref, "retry_step", Decision(by="noc", why="fixed"))
    assert (await run.result()).status is ResultStatus.COMPLETED
    left = await what_is_there(owner)
    assert {name for name, rows in left.items() if rows} <= {DEVICES, "customers", "subscribers", "billing_services"}


@pytest.mark.parametrize("again", ["O-9", "O-10"])
async def test_deprovision_lost_before_its_result_is_completed(
    lastmile: Lastmile, orders: Orders, faults: Faults, again: str
) -> None:
    await lastmile.execute(orders.provision())
    await lost(lastmile, orders.deprovision(), faults, "close_order")
    async with asyncio.timeout(PATIENCE):
        assert (await lastmile.execute(orders.deprovision(again))).status is ResultStatus.COMPLETED


@pytest.mark.parametrize("again", ["O-9", "O-10"])
async def test_lost_deprovision_of_an_unknown_subscriber_is_rolled_back(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, again: str
) -> None:
    await lost(lastmile, orders.deprovision(), faults, "verify_subscriber")
    async with asyncio.timeout(PATIENCE):
        result = await lastmile.execute(orders.deprovision(again))
    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason.startswith(f"verify_subscriber: Subscriber {orders.ref} does not exist")
    assert not any((await what_is_there(owner)).values())


@pytest.mark.parametrize("again", ["O-9", "O-10"])
async def test_takeover_with_a_lost_reply_keeps_the_pivot(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, again: str
) -> None:
    """The lost run was past its pivot. The second attempt to open the order finds nothing to take over."""
    await lastmile.execute(orders.provision())
    await lost(lastmile, orders.deprovision(), faults, "release_ip_address")
    faults.after[(again, "open_order")] = once(broken)
    gate = faults.before[(again, "deactivate_onu")] = Gate()
    run = await lastmile.start(orders.deprovision(again))
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    result = await run.result()
    assert (result.status, result.notes) == (ResultStatus.COMPLETED, [LATE_CANCEL])
    assert await owner.fetchval("SELECT count(*) FROM radcheck") == 0
    assert await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL") == 0


async def test_line_of_an_abandoned_deprovision_stays_blocked_after_a_rollback(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    faults.after["revoke_ipv6_lifecycle"] = refused
    run = await lastmile.start(orders.deprovision())
    await parked(run)
    await lastmile.decide("acme", orders.ref, "abandon", Decision(by="noc", why="stop here"))
    await run.result()
    faults.after.clear()
    blocked = "SELECT count(*) FROM radcheck WHERE attribute = 'Auth-Type'"
    faults.before[("O-2", "allocate_ip_address")] = refused
    await lastmile.execute(orders.provision("O-2"))
    assert await owner.fetchval(blocked) == 1


async def test_deprovision_with_an_unreported_login_is_degraded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """Between Access-Accept and Accounting-Start a session exists that no table shows."""
    await lastmile.execute(orders.provision())
    user = f"{orders.ref}@acme.lastmile"
    await owner.execute("INSERT INTO radpostauth (username, reply) VALUES ($1, 'Access-Accept')", user)
    result = await lastmile.execute(orders.deprovision())
    assert result.status is ResultStatus.DEGRADED
    assert "a login" in result.warnings[0]
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is False
    rest = await owner.fetchval("SELECT free_at - now() FROM slots WHERE last_holder IS NOT NULL")
    assert rest.total_seconds() > 3600


async def test_release_with_a_lost_reply_reports_the_prefix(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    prefix = (await lastmile.execute(orders.provision())).created.ipv6_prefix
    faults.after["release_ip_address"] = once(broken)
    result = await lastmile.execute(orders.deprovision())
    assert outcomes(result)["release_ip_address"] == "done"
    assert result.created.ipv6_prefix == prefix


async def test_device_on_another_line_is_refused_with_that_line(lastmile: Lastmile, orders: Orders) -> None:
    macs = ["00:1a:2b:00:00:aa", "00:1a:2b:00:00:bb", "00:1a:2b:00:00:bb"]
    for nth, mac in enumerate(macs, 1):
        line = Line(connection_type="wireless", cpe_mac=mac)
        result = await lastmile.execute(orders.provision(f"O-{nth}", nth, line=line))
    assert f"already belongs to subscriber {orders.ref}-2's line" in result.reason
