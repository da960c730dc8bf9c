"""The options of `lastmile schedule`."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.exits import run

__all__ = ["schedule"]

schedule = typer.Typer(help="What runs by itself: the cleanup, the metrics, the audit.", no_args_is_help=True)


class Name(StrEnum):
    """As in `workflows.schedules`, which takes too long to import for a line of help; a test compares."""

    CLEANUP = "cleanup"
    METRICS = "metrics"
    AUDIT = "audit"


Which = Annotated[Name, typer.Argument(metavar="NAME", help="cleanup, metrics or audit.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]


@schedule.command("list")
def schedule_list(json: Json = False) -> None:
    """When each runs next, how its last run ended, and whether it is paused."""
    from cli.schedule import schedule_list

    run(schedule_list(json))


@schedule.command("trigger")
def schedule_trigger(name: Which, json: Json = False) -> None:
    """Start a run now, also of one that is paused; not while one is running."""
    from cli.schedule import schedule_trigger

    run(schedule_trigger(name, json))


@schedule.command("pause")
def schedule_pause(
    name: Which,
    why: Annotated[str, typer.Option(help="For whoever finds it paused.")],
    json: Json = False,
) -> None:
    """Start no more runs of it until it is resumed; a run at work goes on."""
    from cli.schedule import schedule_pause

    run(schedule_pause(name, why, json))


@schedule.command("resume")
def schedule_resume(name: Which, json: Json = False) -> None:
    """Start its runs again, from the next one on."""
    from cli.schedule import schedule_resume

    run(schedule_resume(name, json))
