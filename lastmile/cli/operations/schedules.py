"""`lastmile schedule`: the recurring jobs."""

from typing import Any

from lastmile.cli.connections import connect_temporal, load_settings
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, make_table, print_error, print_json, print_result
from lastmile.client.operator_client import OperatorClient
from lastmile.client.schedules.job_status import JobStatus, list_jobs
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.fields.phrases import format_time

__all__ = ["schedule_list", "schedule_pause", "schedule_resume", "schedule_trigger"]


async def schedule_list(as_json: bool) -> Exit:
    """List the jobs; FAILED if the Schedule of a job is missing."""
    operator, schedules = await _connect()
    jobs, missing = await list_jobs(operator.client, schedules)
    found = [_json(job) for job in jobs]
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        columns = ("schedule", "next run", "last run", "outcome", "missed", "skipped", "detail")
        console.print(make_table("", columns, [_row(one) for one in found], spare=("last run",)))
    for words in missing:
        print_error(words)
    return Exit.FAILED if missing else Exit.DONE


async def schedule_trigger(name: str, as_json: bool) -> Exit:
    """Start a run of the job. Raises `UnknownScheduleError`."""
    operator, schedules = await _connect()
    running = await schedules.trigger(name)
    if running:
        print_result(f"{name} is running already, as {running[0]}: no second run was started.", as_json, started=False)
        return Exit.DONE
    print_result(f"{name} is started. `lastmile schedule list` shows its result.", as_json, started=True)
    if shortage := await operator.worker_shortage():
        print_error(shortage)
    return Exit.DONE


async def schedule_pause(name: str, why: str, as_json: bool) -> Exit:
    """Pause the job. Raises `UnknownScheduleError`."""
    _, schedules = await _connect()
    by = current_user()
    paused = await schedules.pause(name, f"paused by {by}: {why}" if by else f"paused: {why}")
    words = "is paused" if paused else "was paused already"
    print_result(f"{name} {words}: it does not run until `lastmile schedule resume {name}`.", as_json, changed=paused)
    return Exit.DONE


async def schedule_resume(name: str, as_json: bool) -> Exit:
    """Resume the job. Raises `UnknownScheduleError`."""
    _, schedules = await _connect()
    resumed = await schedules.resume(name)
    print_result(f"{name} runs again." if resumed else f"{name} was not paused.", as_json, changed=resumed)
    return Exit.DONE


async def _connect() -> tuple[OperatorClient, ScheduleManager]:
    settings = load_settings()
    operator = await connect_temporal(settings)
    return operator, ScheduleManager(operator.client, settings.task_queue)


def _json(job: JobStatus) -> dict[str, Any]:
    one = job.schedule
    return {
        "schedule": one.name,
        "id": one.id,
        "paused": one.paused,
        "note": one.note,
        "next": None if one.paused else one.next_at,
        "last": one.last_at,
        "last_run": one.last_run,
        "last_status": job.last_status,
        "missed": one.missed,
        "left_out": one.skipped,
    }


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    upcoming = "paused" if one["paused"] else format_time(one["next"])
    return (
        one["schedule"],
        upcoming,
        format_time(one["last"]),
        one["last_status"],
        one["missed"] or "",
        one["left_out"] or "",
        one["note"],
    )
