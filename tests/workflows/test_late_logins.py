"""Logins that RADIUS answered with the old prefix, and recorded after the line was switched to another prefix."""

from datetime import timedelta

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from activities.maintenance.audit import AuditActivities
from ipam.allocation import Quarantine
from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.contract import AnyOrder, ResultStatus
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from tests.support.faults import Faults, Gate
from tests.support.orders import Orders, log_in

SWITCHED = "SELECT prefix::text FROM delegations WHERE (replaced_at IS NOT NULL) = $1 ORDER BY id LIMIT 1"


def change(orders: Orders, operation: str) -> AnyOrder:
    return orders.renumber() if operation == "renumber" else orders.change_addressing(ipv6_pd_size=48)


async def log_in_with(
    owner: asyncpg.Connection, orders: Orders, session: str, nas: ScriptedNas | str, *, old: bool
) -> None:
    """Record a session with the old or the new prefix after the switch."""
    await log_in(owner, orders, session, nas)
    prefix = await owner.fetchval(SWITCHED, old)
    await owner.execute(
        "UPDATE radacct SET delegatedipv6prefix = $1::text::inet WHERE acctsessionid = $2", prefix, session
    )


async def switched(lastmile: Lastmile, faults: Faults, order: AnyOrder) -> tuple[OrderRun, Gate]:
    """Start the order and stop it after its switch."""
    gate = faults.after[(order.order_id, "switch_addresses")] = Gate()
    run = await lastmile.start(order)
    await gate.reached.wait()
    return run, gate


async def confirmed(owner: asyncpg.Connection) -> bool | None:
    """Return whether the end of the old prefix's sessions is confirmed."""
    value: bool | None = await owner.fetchval("SELECT disconnect_confirmed FROM delegations ORDER BY id LIMIT 1")
    return value


async def findings(database: Database) -> list[str]:
    return [found.invariant.name async for found in check(database)]


@pytest.mark.parametrize("operation", ["renumber", "change_addressing"])
@pytest.mark.parametrize("online", [True, False], ids=["online at the switch", "offline at the switch"])
async def test_late_login_with_the_old_prefix_is_ended_before_the_release(
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    nas: ScriptedNas,
    faults: Faults,
    operation: str,
    online: bool,
) -> None:
    await lastmile.execute(orders.provision())
    if online:
        await log_in(owner, orders, "before", nas)
    run, gate = await switched(lastmile, faults, change(orders, operation))
    await log_in_with(owner, orders, "late", nas, old=True)
    await log_in_with(owner, orders, "after", nas, old=False)
    gate.open()

    result = await run.result()

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert list(nas.sessions) == (["before"] if online else []) + ["after"]
    assert await confirmed(owner) is True


async def test_retry_ends_a_late_login_with_the_old_prefix_that_no_nas_confirmed(
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    nas: ScriptedNas,
    faults: Faults,
    database: Database,
    authorization: DynamicAuthorization,
    settings: Settings,
) -> None:
    await lastmile.execute(orders.provision())
    run, gate = await switched(lastmile, faults, orders.renumber())
    await log_in_with(owner, orders, "late", nas, old=True)
    await log_in_with(owner, orders, "after", nas, old=False)
    answer, nas.script = nas.script, lambda _: None
    gate.open()
    assert (await run.result()).status is ResultStatus.DEGRADED
    assert await confirmed(owner) is False

    nas.script = answer
    quarantine = Quarantine(
        timedelta(seconds=settings.quarantine_seconds), timedelta(seconds=settings.quarantine_unconfirmed_seconds)
    )
    audit = AuditActivities(database, authorization, quarantine)
    result = await ActivityEnvironment().run(audit.retry_disconnects)

    assert result.counts == {"disconnects_retried": 1, "disconnects_confirmed": 1}
    assert list(nas.sessions) == ["after"]
    assert await confirmed(owner) is True


@pytest.mark.parametrize(("old", "found"), [(True, ["confirmed_too_early"]), (False, [])], ids=["old", "new"])
async def test_late_login_with_the_old_prefix_after_the_release_is_a_finding(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, old: bool, found: list[str]
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.renumber())
    await log_in_with(owner, orders, "late", "192.0.2.1", old=old)
    assert await findings(database) == found


async def test_login_long_after_the_switch_is_no_finding(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    """A RADIUS server answers with the new prefix by then, whatever accounting reports."""
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.renumber())
    await log_in_with(owner, orders, "late", "192.0.2.1", old=True)
    await owner.execute("UPDATE radacct SET recorded_at = now() + interval '6 minutes'")
    assert await findings(database) == []
