"""What runs by itself, on the command line: seen, started, held and let go; and the cleanup by hand."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import asyncpg
import pytest
from temporalio.client import Client, ScheduleCalendarSpec, ScheduleRange, ScheduleSpec
from temporalio.service import RPCError

from lastmile.cli.operations.schedule_app import Name
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES
from lastmile.settings import Settings
from tests.support.commands import Book, Cli, lines

pytestmark = pytest.mark.usefixtures("database")

NEVER = ScheduleSpec(calendars=[ScheduleCalendarSpec(year=[ScheduleRange(2099)])])


@pytest.fixture
async def made(temporal_client: Client, settings: Settings) -> AsyncIterator[ScheduleManager]:
    """As a worker makes them, without one that would carry them out; the hour of the audit never comes."""
    manager = ScheduleManager(temporal_client, settings.task_queue)
    for plan in SCHEDULES:
        await manager.make(replace(plan, spec=NEVER) if plan.name == "audit" else plan)
    yield manager
    for plan in SCHEDULES:
        with suppress(RPCError):
            await temporal_client.get_schedule_handle(manager.id_of(plan.name)).delete()


def test_schedule_names_match_the_schedules() -> None:
    assert list(Name) == [plan.name for plan in SCHEDULES]


async def test_schedule_list_shows_each_job(cli: Cli, made: ScheduleManager) -> None:
    ran = await cli("schedule", "list")
    assert ran.code == 0
    assert "02:00:00 UTC" in ran.out
    assert "Daily at 02:00" in ran.out
    listed = {one["schedule"]: one for one in (await cli("schedule", "list", "--json")).json}
    assert list(listed) == ["cleanup", "metrics", "audit", "resumption"]
    assert listed["cleanup"]["id"] == made.id_of("cleanup")
    assert (listed["cleanup"]["paused"], listed["cleanup"]["last_run"], listed["cleanup"]["missed"]) == (False, None, 0)


async def test_schedule_pause_lasts_until_resume(cli: Cli, made: ScheduleManager) -> None:
    ran = await cli("schedule", "pause", "cleanup", "--why", "ticket 4711")
    assert (ran.code, ran.out) == (0, "cleanup is paused: it does not run until `lastmile schedule resume cleanup`.\n")
    ran = await cli("schedule", "pause", "cleanup", "--why", "me too")
    assert (ran.code, "was paused already" in ran.out) == (0, True)
    shown = (await cli("schedule", "list")).out
    assert "paused by" in shown
    assert "ticket 4711" in shown

    ran = await cli("schedule", "resume", "cleanup", "--json")
    assert (ran.code, ran.json) == (0, [{"changed": True}])
    ran = await cli("schedule", "resume", "cleanup")
    assert (ran.code, ran.out) == (0, "cleanup was not paused.\n")


async def test_schedule_trigger_without_a_worker_starts_one_run_and_warns(
    cli: Cli, made: ScheduleManager, temporal_client: Client
) -> None:
    ran = await cli("schedule", "trigger", "audit")
    assert (ran.code, ran.out.startswith("audit is started.")) == (0, True)
    assert "No worker polls" in ran.err
    while not (running := (await made.status(SCHEDULES[2])).running):
        pass
    ran = await cli("schedule", "trigger", "audit")
    assert (ran.code, ran.out) == (0, f"audit is running already, as {running[0]}: no second run was started.\n")
    assert "running" in (await cli("schedule", "list")).out
    await temporal_client.get_workflow_handle(running[0]).terminate()


async def test_schedule_list_names_missing_schedules(cli: Cli) -> None:
    ran = await cli("schedule", "list")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("does not exist: a worker creates it at its start") == 4
    assert (await cli("schedule", "trigger", "audit")).code == 1


async def test_schedule_of_an_unknown_name_is_refused(cli: Cli) -> None:
    ran = await cli("schedule", "trigger", "billing")
    assert (ran.code, "'cleanup', 'metrics', 'audit'" in ran.err) == (2, True)


async def test_schedule_list_without_temporal_is_unavailable(alone: Cli) -> None:
    ran = await alone("schedule", "list")
    assert (ran.code, "No Temporal server answers at 127.0.0.1:1" in ran.err) == (3, True)


async def test_cleanup_runs_with_the_given_limits(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    """What would be deleted is counted; a leak is named, with its subscriber and order, as its alert's runbook says."""
    file = lines(book.order(), book.order(2))
    await cli("provision", "-", stdin=file)
    await owner.execute(
        "UPDATE delegations SET state = 'allocated', state_since = now() - interval '25 hours'"
        " WHERE created_by_order = 'O-2'"
    )
    await cli("deprovision", book.ref(), "--reason", "moved", "--tenant", "acme")
    await owner.execute("UPDATE delegations SET released_at = released_at - interval '31 days'")

    ran = await cli("cleanup", "--revoked-days", "30", "--dry-run")
    assert ran.code == 0
    assert "/cleanup-by-hand, and waits there while no worker answers. Ctrl-C does not stop it." in ran.err
    assert "Dry run: nothing was changed" in ran.out
    assert await owner.fetchval("SELECT count(*) FROM delegations") == 2
    assert f"acme, subscriber {book.ref(2)}: allocated since " in ran.out
    assert "by order O-2, which is completed" in ran.out
    ran = await cli("cleanup", "--json")
    assert (ran.code, ran.json[0]["revoked_deleted"]) == (0, 0)
    ran = await cli("cleanup", "--revoked-days", "30", "--json")
    assert (ran.code, ran.json[0]["revoked_deleted"]) == (0, 1)


async def test_cleanup_with_invalid_limits_is_refused(cli: Cli) -> None:
    ran = await cli("cleanup", "--revoking-hours", "-1")
    assert (ran.code, "--revoking-hours: must be at least 0, and is -1.0" in ran.err) == (2, True)
    ran = await cli("cleanup")
    assert (ran.code, "The cleanup was not started. No worker polls" in ran.err) == (3, True)
