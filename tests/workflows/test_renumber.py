"""Orders that give a line another prefix: the switch, the overlap, its end, and what is lost on the way."""

import asyncio
import re

import asyncpg
import pytest
from pyrad.packet import CoARequest, DisconnectRequest

from lastmile.audit.audit import check
from lastmile.client.orders import AlreadyRunningError, Lastmile, OrderRun
from lastmile.contract import Decision, Progress, ResultStatus
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas, nak
from lastmile.services.overview import find_overview
from tests.support.faults import Faults, Gate, refused
from tests.support.orders import Orders, dispatched, log_in, outcomes, parked, read_progress, what_is_there
from tests.support.overlaps import short_overlaps
from tests.workflows.test_takeover import PATIENCE, lost
from workflows.saga import LATE_CANCEL
from workflows.step_table import step_table

WORD = Decision(by="noc-7", why="ticket 4711")


async def prefixes(owner: asyncpg.Connection) -> list[tuple[str, str]]:
    rows = await owner.fetch("SELECT prefix::text, state FROM delegations WHERE released_at IS NULL ORDER BY id")
    return [(row["prefix"], row["state"]) for row in rows]


async def in_radius(owner: asyncpg.Connection) -> list[str]:
    return [row["value"] for row in await owner.fetch("SELECT value FROM radreply ORDER BY id")]


async def findings(database: Database) -> list[str]:
    return sorted([found.invariant.name async for found in check(database)])


async def in_overlap(run: OrderRun) -> Progress:
    """Wait until the run waits for the end of its overlap; return its progress."""
    while True:
        progress = await read_progress(run)
        if progress is not None and progress.waits_until is not None:
            return progress
        await asyncio.sleep(0.02)  # a query cannot be waited for


async def test_renumber_gives_another_prefix_and_releases_the_old_one(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    before = (await lastmile.execute(orders.provision())).created.ipv6_prefix

    result = await lastmile.execute(orders.renumber())

    assert result.status is ResultStatus.COMPLETED
    assert set(outcomes(result).values()) == {"done"}
    new = result.created.ipv6_prefix
    assert new != before
    assert await prefixes(owner) == [(new, "active")]
    assert await in_radius(owner) == [new]
    assert await owner.fetchval("SELECT free_at > now() FROM slots WHERE delegation_id IS NULL AND slot = 0") is True
    assert await findings(database) == []
    assert (await lastmile.execute(orders.renumber())).created == result.created


async def test_line_has_both_prefixes_until_the_overlap_ends(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    before = (await lastmile.execute(orders.provision())).created.ipv6_prefix
    run = await lastmile.start(orders.renumber(overlap_hours=48))

    progress = await in_overlap(run)

    assert progress.waits_until is not None
    assert f"> Waits until {progress.waits_until:%Y-%m-%d %H:%M:%S} UTC" in step_table(progress)
    (old, _), (new, _) = held = await prefixes(owner)
    assert (old, {state for _, state in held}) == (before, {"active"})
    assert await in_radius(owner) == [new]
    await owner.execute("UPDATE orders SET created_at = created_at - interval '2 days'")
    assert await findings(database) == []
    shown = (await find_overview(database, "acme", orders.ref)).addresses
    assert [(one["prefix"], one["until"]) for one in shown] == [(old, progress.waits_until), (new, None)]
    await run.handle.terminate("by the test")


async def test_cancel_in_the_overlap_is_too_late_and_the_old_prefix_is_released_at_its_end(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    async with short_overlaps(owner):
        run = await lastmile.start(orders.renumber(overlap_hours=48))
        await in_overlap(run)
        await run.handle.cancel()
        result = await run.result()
    assert (result.status, result.notes) == (ResultStatus.COMPLETED, [LATE_CANCEL])
    assert await prefixes(owner) == [(result.created.ipv6_prefix, "active")]


async def test_resume_in_the_overlap_is_refused_and_starts_after_it_when_sent_as_advised(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.suspend())
    async with short_overlaps(owner, seconds=5):
        run = await lastmile.start(orders.renumber(overlap_hours=48))
        until = (await in_overlap(run)).waits_until
        assert until is not None

        with pytest.raises(AlreadyRunningError) as refusal:
            await lastmile.start(orders.resume())

        advised = re.search(r"with `not_before` (\S+): it then starts by itself", str(refusal.value))
        assert advised is not None
        held = (await lastmile.start(orders.resume(not_before=advised[1]))).scheduled
        assert held is not None
        assert (await run.result()).status is ResultStatus.COMPLETED
    dispatch = await dispatched(lastmile, held)
    await dispatch.result()
    resumed = await lastmile.start(orders.resume(not_before=advised[1]))
    assert (await resumed.result()).status is ResultStatus.COMPLETED
    assert await prefixes(owner) == [(await owner.fetchval("SELECT value FROM radreply"), "active")]


@pytest.mark.parametrize("suspended", [False, True], ids=["in service", "suspended"])
async def test_cancel_before_the_switch_leaves_everything_as_it_was(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, suspended: bool
) -> None:
    await lastmile.execute(orders.provision())
    if suspended:
        await lastmile.execute(orders.suspend())
    before = await what_is_there(owner)
    gate = faults.after[("O-2", "allocate_replacement")] = Gate()
    run = await lastmile.start(orders.renumber())
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before


async def test_renumber_there_and_back_leaves_the_line_as_it_was(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """The subscriber gets the prefix that it had before (RIPE-690), by another delegation."""
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)

    away = await lastmile.execute(orders.renumber("O-2"))
    back = await lastmile.execute(orders.renumber("O-3"))

    assert away.created.ipv6_prefix != back.created.ipv6_prefix
    after = await what_is_there(owner)
    assert {table: _without_ids(rows) for table, rows in after.items() if table != "held delegations"} == {
        table: _without_ids(rows) for table, rows in before.items() if table != "held delegations"
    }


def _without_ids(rows: list[str]) -> list[str]:
    """Return the rows without what a second allocation changes: ids, and the quarantine that the slot was in."""
    return [re.sub(r'"(id|delegation_id|free_at)": [^,]*', "", row) for row in rows]


@pytest.mark.parametrize("after", ["deprovision", "renumber"])
async def test_next_order_after_a_lost_overlap_releases_the_old_prefix(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, after: str
) -> None:
    await lastmile.execute(orders.provision())
    run = await lastmile.start(orders.renumber(overlap_hours=48))
    await in_overlap(run)
    await run.handle.terminate("by the test")
    await owner.execute(
        "UPDATE delegations SET replaced_until = now() - interval '2 hours' WHERE replaced_at IS NOT NULL"
    )
    assert await findings(database) == ["endless_overlap"]
    new = (await prefixes(owner))[1]

    result = await lastmile.execute(orders.of(after, "O-3"))

    assert result.status is ResultStatus.COMPLETED
    assert await prefixes(owner) == ([] if after == "deprovision" else [new])
    assert await findings(database) == []


async def test_abandoned_overlap_is_a_finding_that_a_new_order_removes(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    faults.before[("O-2", "revoke_replaced_addresses")] = refused
    run = await lastmile.start(orders.renumber())
    await parked(run)
    await lastmile.decide("acme", orders.ref, "abandon", WORD)
    await run.result()
    assert await findings(database) == ["endless_overlap", "terminated_order"]
    with pytest.raises(Exception, match="order O-2 has begun to replace 2001:db8::/56 and has not finished"):
        await lastmile.execute(orders.provision("O-3"))

    result = await lastmile.execute(orders.renumber("O-4"))

    assert result.status is ResultStatus.COMPLETED
    assert await prefixes(owner) == [(result.created.ipv6_prefix, "active")]
    assert await findings(database) == []


async def test_order_after_an_abandoned_switch_goes_on_with_the_new_prefix(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    faults.before[("O-2", "switch_addresses")] = refused
    run = await lastmile.start(orders.renumber())
    await parked(run)
    await lastmile.decide("acme", orders.ref, "abandon", WORD)
    await run.result()
    assert await findings(database) == ["endless_overlap", "not_active", "terminated_order"]
    _, (new, _) = await prefixes(owner)

    result = await lastmile.execute(orders.renumber("O-3"))

    assert (result.status, result.created.ipv6_prefix) == (ResultStatus.COMPLETED, new)
    assert "which an order that ended halfway had allocated" in result.notes[0]
    assert await prefixes(owner) == [(new, "active")]
    assert await findings(database) == []


async def test_overlap_of_an_adopted_prefix_that_is_lost_gives_no_third_prefix(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, nas: ScriptedNas
) -> None:
    """A suspension came between, so the order that goes on with the prefix has not taken over the one that is lost."""
    await lastmile.execute(orders.provision())
    await lost(lastmile, orders.renumber(), faults, "switch_addresses")
    _, (new, _) = await prefixes(owner)
    await lastmile.execute(orders.suspend(mode="slow"))
    await lastmile.execute(orders.resume())
    await log_in(owner, orders, "4F0C-01", nas)
    run = await lastmile.start(orders.renumber("O-5", overlap_hours=48))
    await in_overlap(run)
    assert (await nas.next_request()).code == CoARequest
    await run.handle.terminate("by the test")
    await owner.execute("UPDATE delegations SET replaced_until = now() WHERE replaced_at IS NOT NULL")

    async with asyncio.timeout(PATIENCE):  # the overlap of a third prefix would last for 48 hours
        result = await lastmile.execute(orders.renumber("O-5", overlap_hours=48))

    assert (result.status, result.created.ipv6_prefix) == (ResultStatus.COMPLETED, new)
    assert await prefixes(owner) == [(new, "active")]


async def test_live_session_takes_the_new_prefix_by_a_coa_and_is_not_ended(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)

    result = await lastmile.execute(orders.renumber())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    request = await nas.next_request()
    assert (request.code, request.session) == (CoARequest, "4F0C-01")
    assert request.attributes["Delegated-IPv6-Prefix"] == [result.created.ipv6_prefix]
    assert list(nas.sessions) == ["4F0C-01"]
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations ORDER BY id LIMIT 1") is True


async def test_session_that_refuses_the_coa_is_ended(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    answer = nas.script
    nas.script = lambda request: nak(401) if request.code == CoARequest else answer(request)

    result = await lastmile.execute(orders.renumber())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert [(await nas.next_request()).code for _ in range(2)] == [CoARequest, DisconnectRequest]


async def test_session_on_a_silent_nas_keeps_the_old_prefix_from_others_for_longer(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None

    result = await lastmile.execute(orders.renumber())

    assert result.status is ResultStatus.DEGRADED
    assert [outcomes(result)[step] for step in ("switch_addresses", "revoke_replaced_addresses")] == ["warned"] * 2
    assert await owner.fetchval("SELECT free_at > now() + interval '100 min' FROM slots WHERE slot = 0") is True


async def test_renumber_without_such_a_prefix_is_rolled_back(lastmile: Lastmile, orders: Orders) -> None:
    await lastmile.execute(orders.provision())
    result = await lastmile.execute(orders.renumber(purpose="ipv4"))
    assert result.status is ResultStatus.ROLLED_BACK
    words = "has no ipv4 prefix to renumber. Order change_addressing to add one."
    assert result.reason == f"begin_replacement: Subscriber {orders.ref} {words}"


async def test_renumber_to_a_pool_of_another_length_is_rolled_back(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    result = await lastmile.execute(orders.renumber(pool="business"))
    assert result.status is ResultStatus.ROLLED_BACK
    assert "no ipv6_pd pool of /56s, name 'business'" in result.reason
    assert await what_is_there(owner) == before


@pytest.mark.parametrize("mode", ["block", "walled_garden"])
async def test_renumber_of_a_suspended_line_gives_a_suspended_prefix_that_a_resume_activates(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, mode: str
) -> None:
    """A blocked line has no overlap, whatever the order says: nobody uses it."""
    before = (await lastmile.execute(orders.provision())).created.ipv6_prefix
    await lastmile.execute(orders.suspend(mode=mode))
    group = await owner.fetchval("SELECT groupname FROM radusergroup")

    result = await lastmile.execute(orders.renumber(overlap_hours=48 if mode == "block" else 0))

    new = result.created.ipv6_prefix
    assert new != before
    assert (result.status, await prefixes(owner)) == (ResultStatus.COMPLETED, [(new, "suspended")])
    assert (await in_radius(owner), await owner.fetchval("SELECT groupname FROM radusergroup")) == ([new], group)
    assert await findings(database) == []
    assert (await lastmile.execute(orders.resume())).status is ResultStatus.COMPLETED
    assert await prefixes(owner) == [(new, "active")]
    assert await findings(database) == []


async def test_resume_after_a_lost_overlap_activates_both_prefixes_until_the_next_renumber(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.suspend(mode="slow"))
    run = await lastmile.start(orders.renumber(overlap_hours=48))
    await in_overlap(run)
    await run.handle.terminate("by the test")

    await lastmile.execute(orders.resume())

    (_, old), (new, state) = await prefixes(owner)
    assert (old, state, await findings(database)) == ("active", "active", ["endless_overlap"])
    await lastmile.execute(orders.renumber("O-5"))
    assert (await in_radius(owner), await prefixes(owner)) == ([new], [(new, "active")])
    assert await findings(database) == []
