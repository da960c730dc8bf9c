"""The options of `lastmile netbox`."""

from typing import Annotated

import typer

from cli.exits import EPILOG, run

__all__ = ["netbox"]

Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]

netbox = typer.Typer(help="NetBox, where address space is owned (NETBOX_URL, NETBOX_TOKEN).", no_args_is_help=True)


@netbox.command(epilog=EPILOG)
def check(json: Json = False) -> None:
    """Whether NetBox has all that Lastmile needs, and what to do where it has not. Changes nothing."""
    from cli.netbox import check

    run(check(json))


@netbox.command(epilog=EPILOG)
def setup(
    tenant: Annotated[
        str | None, typer.Option(help="This one too, whose pools are to be in NetBox; those of pools there always are.")
    ] = None,
    json: Json = False,
) -> None:
    """Create the custom fields, the tag and the tenants that NetBox lacks. What is there is never changed."""
    from cli.netbox import setup

    run(setup(tenant, json))


@netbox.command(epilog=EPILOG)
def reconcile(
    pool: Annotated[str | None, typer.Option(help="Only this pool; without it, all that are kept in NetBox.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Read everything, and not only what has changed since the last time.")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Bring NetBox to what the database says.")] = False,
    json: Json = False,
) -> None:
    """Where NetBox and the database differ, and what would be done about it. Without --repair it changes nothing."""
    from cli.reconcile import reconcile

    run(reconcile(pool=pool, everything=everything, repairing=repair, as_json=json))


@netbox.command("import", epilog=EPILOG)
def import_(
    pool: Annotated[str, typer.Option(help="The pool that they are in: one that NetBox chooses from (direct).")],
    tenant: Annotated[str | None, typer.Option(help="Whose pool, where several have one of this name.")] = None,
    field: Annotated[
        str | None,
        typer.Option(help="The custom field that has the subscriber's reference; without it, the description is it."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it. Without this, only say what would be done.")] = False,
    json: Json = False,
) -> None:
    """Make delegations of prefixes that carry subscribers in NetBox already.

    The subscribers have been provisioned, with orders that ask for no such prefix. Cut off at any moment, the same
    command again goes on.
    """
    from cli.netbox_import import import_prefixes

    run(import_prefixes(pool, tenant, field, apply=apply, as_json=json))
