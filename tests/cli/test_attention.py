"""Everything that waits for a person, in one list, and one decision for all of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from lastmile.client.orders import Lastmile, OrderRun
from lastmile.client.parked_runs import parked_runs
from lastmile.contract import ResultStatus
from lastmile.settings import Settings
from tests.support.commands import Book, Cli
from tests.support.faults import Faults, refused
from tests.support.orders import Orders, parked
from tests.support.workers import RunningWorker

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
async def waiting(
    working: RunningWorker, temporal_client: Client, settings: Settings, book: Book, faults: Faults
) -> AsyncIterator[list[OrderRun]]:
    """Two parked orders of acme and one of another tenant, listed by Temporal; a worker runs."""
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    lastmile = Lastmile(temporal_client, task_queue=settings.task_queue)
    async with working:
        runs = [
            await lastmile.start(Orders(book.ref(), tenant).provision(f"O-{nth}", nth))
            for nth, tenant in enumerate(("acme", "acme", "other"), 1)
        ]
        for run in runs:
            await parked(run)
        while True:
            if len([run async for run in parked_runs(temporal_client, settings.task_queue)]) == len(runs):
                break
            await asyncio.sleep(0.05)  # visibility cannot be waited for
        yield runs
        for run in runs:
            with suppress(RPCError):  # its test has released it
                await run.handle.terminate()


async def test_attention_without_parked_orders_says_so(cli: Cli) -> None:
    ran = await cli("attention")
    assert (ran.code, ran.out) == (0, "No order waits for an operator.\n")
    ran = await cli("attention", "--json")
    assert (ran.code, ran.json) == (0, [])


async def test_attention_counts_the_findings_of_the_last_audit(cli: Cli, owner: asyncpg.Connection) -> None:
    await owner.execute(
        """
        INSERT INTO audit_findings (invariant, violations, acknowledged, repaired, checked_at)
        VALUES ('overlap', 0, 0, 0, '2026-05-03 14:00Z'), ('terminated_order', 3, 2, 0, '2026-05-03 14:01Z')
        """
    )
    ran = await cli("attention")
    assert "The audit of 2026-05-03 14:00:00 UTC left 3 findings: `lastmile audit` lists them." in ran.out
    assert "2 more are acknowledged." in ran.out


async def test_attention_lists_parked_orders_by_time_tenant_and_step(cli: Cli, waiting: list[OrderRun]) -> None:
    ran = await cli("attention", "--json")
    assert ran.code == 0
    assert [run["parked"]["since"] for run in ran.json] == sorted(run["parked"]["since"] for run in ran.json)
    listed = sorted(ran.json, key=lambda run: run["order_id"])
    assert [(run["tenant"], run["order_id"], run["operation"], run["step"]) for run in listed] == [
        (tenant, f"O-{nth}", "provision", "allocate_ip_address")
        for nth, tenant in enumerate(("acme", "acme", "other"), 1)
    ]
    assert {run["attention"] for run in ran.json} == {"undo of allocate_ip_address failed: refused by the test"}
    assert all(run["parked"]["since"] > run["started_at"] for run in ran.json)
    assert {(run["parked"]["undo"], run["parked"]["attempts"]) for run in ran.json} == {(True, 1)}
    assert [run["order_id"] for run in (await cli("attention", "--tenant", "other", "--json")).json] == ["O-3"]
    assert (await cli("attention", "--step", "create_customer", "--json")).json == []
    shown = (await cli("attention", "--tenant", "other")).out
    assert waiting[2].order.subscriber_ref in shown
    assert "undo: refused by the test" in shown
    (seen,) = [run for run in ran.json if run["tenant"] == "other"]
    assert seen["parked"]["since"][:19].replace("T", " ") in shown
    assert "lastmile retry" in shown


async def test_attention_decide_releases_all_orders_of_a_tenant(
    cli: Cli, waiting: list[OrderRun], faults: Faults
) -> None:
    faults.before.clear()
    ran = await cli("attention", "--tenant", "acme", "--decide", "retry", "--why", "pool table fixed", "--by", "noc-7")
    assert ran.code == 0, ran.err
    for run in waiting[:2]:
        line = next(line for line in ran.out.splitlines() if run.order.subscriber_ref in line)
        assert "retry_step of allocate_ip_address by noc-7" in line
        assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert (await parked(waiting[2])).step == "allocate_ip_address"


async def test_attention_decide_reports_an_order_that_was_released_meanwhile(
    cli: Cli, waiting: list[OrderRun], faults: Faults
) -> None:
    """Visibility is behind by a moment: the list has a run that a colleague has just released."""
    faults.before.clear()
    first = await cli("retry", waiting[0].order.subscriber_ref, "--tenant", "acme", "--why", "fixed")
    assert first.code == 0
    await waiting[0].result()
    choice = ("--step", "allocate_ip_address", "--decide", "abandon", "--why", "moved by hand", "--json")
    ran = await cli("attention", *choice)
    left = [run for run in ran.json if not run["problem"]]
    assert sorted(run["order_id"] for run in left) == ["O-2", "O-3"]
    assert (await waiting[1].result()).status is ResultStatus.ABANDONED


async def test_attention_with_options_that_do_not_fit_is_refused(cli: Cli) -> None:
    for options, words in (
        (("--why", "x"), "--why and --by belong to a decision"),
        (("--decide", "retry"), "needs its reason: --why"),
        (("--decide", "skip", "--why", "x"), "needs --step: name the step"),
        (("--decide", "retry", "--why", ""), "--why: must not be empty"),
        (("--step", "activate_ontu"), "No order has a step 'activate_ontu'. Did you mean 'activate_onu'?"),
    ):
        ran = await cli("attention", *options)
        assert (ran.code, words in ran.err) == (2, True), ran.err


async def test_attention_without_a_worker_lists_without_reasons(
    cli: Cli, book: Book, working: RunningWorker, temporal_client: Client, settings: Settings, faults: Faults
) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    lastmile = Lastmile(temporal_client, task_queue=settings.task_queue)
    async with working:
        run = await lastmile.start(Orders(book.ref()).provision())
        await parked(run)
    soon = cli.with_answer_time(seconds=2)
    while not (listed := await soon("attention")).out.count(book.ref()):
        pass
    assert "reason unknown: no worker answers within 2 s" in listed.out
    await run.handle.terminate()
