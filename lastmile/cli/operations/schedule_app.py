"""The options of `lastmile schedule`."""

from enum import StrEnum
from typing import Annotated

import typer

from lastmile.cli.exit_codes import run

__all__ = ["schedule"]

schedule = typer.Typer(help="Manage the recurring jobs: cleanup, metrics, audit, resumption.", no_args_is_help=True)


class Name(StrEnum):
    """The names of the plans, repeated because an import of `lastmile.client` slows `--help`. A test compares them."""

    CLEANUP = "cleanup"
    METRICS = "metrics"
    AUDIT = "audit"
    RESUMPTION = "resumption"


Which = Annotated[Name, typer.Argument(metavar="NAME", help="The job: cleanup, metrics, audit or resumption.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]


@schedule.command("list")
def schedule_list(json: Json = False) -> None:
    """List the jobs: next run, result of the last run, pause."""
    from lastmile.cli.operations.schedules import schedule_list

    run(schedule_list(json))


@schedule.command("trigger")
def schedule_trigger(name: Which, json: Json = False) -> None:
    """Start a run of a job now, even if the job is paused. Refused while a run is active."""
    from lastmile.cli.operations.schedules import schedule_trigger

    run(schedule_trigger(name, json))


@schedule.command("pause")
def schedule_pause(
    name: Which,
    why: Annotated[str, typer.Option(help="The reason, shown by `lastmile schedule list`.")],
    json: Json = False,
) -> None:
    """Pause a job: no new run starts. An active run continues."""
    from lastmile.cli.operations.schedules import schedule_pause

    run(schedule_pause(name, why, json))


@schedule.command("resume")
def schedule_resume(name: Which, json: Json = False) -> None:
    """Resume a paused job, from its next time on."""
    from lastmile.cli.operations.schedules import schedule_resume

    run(schedule_resume(name, json))
