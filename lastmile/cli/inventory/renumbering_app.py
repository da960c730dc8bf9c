"""The command `lastmile renumber-pool` and the commands `lastmile renumbering` with their options."""

import re
from typing import Annotated

import typer

from lastmile.cli.arguments import whole_number
from lastmile.cli.exit_codes import EPILOG, run
from lastmile.cli.inventory.pool_app import Name, Whose

__all__ = ["renumber_pool_command", "renumbering"]

renumber_pool_command = typer.Typer()
renumbering = typer.Typer(help="Watch, pause, resume and stop the renumbering of a pool.", no_args_is_help=True)

_RATE = re.compile("([1-9][0-9]{0,5})/h")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]
Why = Annotated[str, typer.Option(help="The reason, which the Temporal UI shows. Do not enter personal data.")]
By = Annotated[str | None, typer.Option(help="The person who decides. Default: your login.")]


def _rate(typed: str | int) -> int:
    found = _RATE.fullmatch(str(typed))
    if found is None:
        raise typer.BadParameter(f"must be lines per hour, from 1/h to 999999/h, as in 200/h, and is {typed!r}")
    return int(found[1])


@renumber_pool_command.command("renumber-pool", epilog=EPILOG)
def renumber_pool(
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="POOL", help="The pool of the new prefixes.")],
    rate: Annotated[
        int, typer.Option(parser=_rate, metavar="NUMBER/h", help="How many lines begin in an hour, as in 200/h.")
    ],
    window: Annotated[
        str | None,
        typer.Option(metavar="HH:MM-HH:MM", help="The hours in which lines begin, as in 02:00-05:00. Default: always."),
    ] = None,
    time_zone: Annotated[
        str, typer.Option(metavar="ZONE", help="The time zone of the window, as in Europe/Berlin. Default: UTC.")
    ] = "UTC",
    overlap_hours: Annotated[
        int,
        typer.Option(
            parser=whole_number,
            metavar="NUMBER",
            help="The hours for which a line keeps its old prefix, 0 to 720. Default: 2.",
        ),
    ] = 2,
    max_failed: Annotated[
        int,
        typer.Option(
            parser=whole_number,
            metavar="PERCENT",
            help="Stop when more than this share of the renumberings has failed, and at least five. Default: 5.",
        ),
    ] = 5,
    tenant: Whose = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show how many lines are to be renumbered, and start nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Give every line of a closed pool a prefix of another pool, by renumber orders in Temporal.

    The command starts the renumbering and ends. `lastmile renumbering watch` follows it. The same command again, after
    the renumbering has stopped, goes on with the lines that are left.
    """
    from lastmile.cli.inventory.pool_renumbering import renumber_pool

    run(
        renumber_pool(
            name,
            to,
            tenant=tenant,
            rate=rate,
            window=window,
            time_zone=time_zone,
            overlap_hours=overlap_hours,
            max_failed=max_failed,
            dry_run=dry_run,
            as_json=json,
        )
    )


@renumbering.command("show")
def renumbering_show(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Show where the newest renumbering of a pool stands, running or ended."""
    from lastmile.cli.inventory.pool_renumbering import show

    run(show(name, tenant, as_json=json))


@renumbering.command("watch", epilog=EPILOG)
def renumbering_watch(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Follow the renumbering of a pool to its end. Interrupt the command, and the renumbering continues.

    The exit code is 1 if lines of the pool are left.
    """
    from lastmile.cli.inventory.pool_renumbering import watch

    run(watch(name, tenant, as_json=json))


@renumbering.command("pause")
def renumbering_pause(name: Name, why: Why, tenant: Whose = None, by: By = None, json: Json = False) -> None:
    """Pause the renumbering of a pool: no further order starts. Orders that were started go on."""
    from lastmile.cli.inventory.pool_renumbering import decide

    run(decide("pause", name, tenant, why=why, by=by, as_json=json))


@renumbering.command("resume")
def renumbering_resume(name: Name, why: Why, tenant: Whose = None, by: By = None, json: Json = False) -> None:
    """Resume a paused renumbering of a pool."""
    from lastmile.cli.inventory.pool_renumbering import decide

    run(decide("resume", name, tenant, why=why, by=by, as_json=json))


@renumbering.command("stop")
def renumbering_stop(name: Name, why: Why, tenant: Whose = None, by: By = None, json: Json = False) -> None:
    """Stop the renumbering of a pool. Lines that have a new prefix keep it, and orders that were started go on."""
    from lastmile.cli.inventory.pool_renumbering import decide

    run(decide("stop", name, tenant, why=why, by=by, as_json=json))
