"""The options of `lastmile netbox`."""

from typing import Annotated

import typer

from lastmile.cli.exit_codes import EPILOG, run

__all__ = ["netbox"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]

netbox = typer.Typer(help="Check, prepare and repair NetBox (NETBOX_URL, NETBOX_TOKEN).", no_args_is_help=True)


@netbox.command(epilog=EPILOG)
def check(json: Json = False) -> None:
    """List what NetBox lacks, and the remedy. Changes nothing."""
    from lastmile.cli.netbox.setup import check

    run(check(json))


@netbox.command(epilog=EPILOG)
def setup(
    tenant: Annotated[
        str | None, typer.Option(help="Also create this tenant. Tenants of pools in NetBox are always created.")
    ] = None,
    json: Json = False,
) -> None:
    """Create the custom fields, the tag and the tenants that NetBox lacks. Existing objects are never changed."""
    from lastmile.cli.netbox.setup import setup

    run(setup(tenant, json))


@netbox.command(epilog=EPILOG)
def reconcile(
    pool: Annotated[str | None, typer.Option(help="Only this pool. Default: all pools in NetBox.")] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Read every record. Default: the records that changed since the last comparison."),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair NetBox, so that it agrees with the database.")
    ] = False,
    json: Json = False,
) -> None:
    """List the differences between NetBox and the database, each with its repair. Without --repair, changes nothing."""
    from lastmile.cli.netbox.reconciliation import reconcile

    run(reconcile(pool=pool, everything=everything, repairing=repair, as_json=json))


@netbox.command("import", epilog=EPILOG)
def import_(
    pool: Annotated[str, typer.Option(help="The pool of the prefixes. It must be direct: NetBox chooses each prefix.")],
    tenant: Annotated[
        str | None, typer.Option(help="The pool's tenant. Needed where several pools have this name.")
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(help="The custom field with the subscriber's reference. Default: the description."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Import. Without this option the command only lists what it would import.")
    ] = False,
    json: Json = False,
) -> None:
    """Import prefixes of subscribers from NetBox as delegations.

    Provision the subscribers first, with orders that ask for no such prefix. After an interruption, the same command
    again continues the import.
    """
    from lastmile.cli.netbox.netbox_import import import_prefixes

    run(import_prefixes(pool, tenant, field, apply=apply, as_json=json))
