"""`lastmile schedule`: what runs by itself, seen and held from the command line."""

from typing import Any

from temporalio.service import RPCError, RPCStatusCode

from lastmile.cli.connections import Temporal, load_settings
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import complain, console, print_json, table, tell, when
from lastmile.client.errors import UnknownScheduleError
from lastmile.client.schedule_manager import ScheduleManager, ScheduleStatus
from lastmile.client.schedules import SCHEDULES

__all__ = ["schedule_list", "schedule_pause", "schedule_resume", "schedule_trigger"]


async def schedule_list(as_json: bool) -> Exit:
    """Each as it stands; FAILED where one is not there."""
    temporal, schedules = await _connect()
    found: list[dict[str, Any]] = []
    missing = []
    for plan in SCHEDULES:
        try:
            found.append(await _facts(temporal, await schedules.standing(plan)))
        except UnknownScheduleError as failure:
            missing.append(str(failure))
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        columns = ("schedule", "next run", "last run", "outcome", "missed", "skipped", "detail")
        console.print(table("", columns, [_row(one) for one in found], spare=("last run",)))
    for words in missing:
        complain(words)
    return Exit.FAILED if missing else Exit.DONE


async def schedule_trigger(name: str, as_json: bool) -> Exit:
    """Start a run. Raises `UnknownScheduleError`."""
    temporal, schedules = await _connect()
    running = await schedules.trigger(name)
    if running:
        tell(f"{name} is running already, as {running[0]}: no second run was started.", as_json, started=False)
        return Exit.DONE
    tell(f"{name} is started. `lastmile schedule list` shows its result.", as_json, started=True)
    if lack := await temporal.lack_of_workers():
        complain(lack)
    return Exit.DONE


async def schedule_pause(name: str, why: str, as_json: bool) -> Exit:
    """Pause it. Raises `UnknownScheduleError`."""
    _, schedules = await _connect()
    by = actor()
    paused = await schedules.pause(name, f"paused by {by}: {why}" if by else f"paused: {why}")
    words = "is paused" if paused else "was paused already, and stays so"
    tell(f"{name} {words}: it does not run until `lastmile schedule resume {name}`.", as_json, changed=paused)
    return Exit.DONE


async def schedule_resume(name: str, as_json: bool) -> Exit:
    """Take a pause back. Raises `UnknownScheduleError`."""
    _, schedules = await _connect()
    resumed = await schedules.resume(name)
    tell(f"{name} runs again." if resumed else f"{name} was not paused.", as_json, changed=resumed)
    return Exit.DONE


async def _connect() -> tuple[Temporal, ScheduleManager]:
    settings = load_settings()
    temporal = await Temporal.connect(settings)
    return temporal, ScheduleManager(temporal.client, settings.task_queue)


async def _facts(temporal: Temporal, one: ScheduleStatus) -> dict[str, Any]:
    return {
        "schedule": one.name,
        "id": one.id,
        "paused": one.paused,
        "note": one.note,
        "next": None if one.paused else one.next_at,
        "last": one.last_at,
        "last_run": one.last_run,
        "last_status": await _status(temporal, one.last_run),
        "missed": one.missed,
        "left_out": one.skipped,
    }


async def _status(temporal: Temporal, run: str | None) -> str | None:
    """How the run ended, or that it runs; None where Temporal has forgotten it."""
    if run is None:
        return None
    try:
        found = await temporal.client.get_workflow_handle(run).describe()
    except RPCError as failure:
        if failure.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return found.status.name.lower() if found.status else None


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    upcoming = "paused" if one["paused"] else when(one["next"])
    return (
        one["schedule"],
        upcoming,
        when(one["last"]),
        one["last_status"],
        one["missed"] or "",
        one["left_out"] or "",
        one["note"],
    )
