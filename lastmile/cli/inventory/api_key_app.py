"""The commands `lastmile api-key` with their options."""

from typing import Annotated

import typer

from lastmile.cli.exit_codes import run
from lastmile.cli.options import Json

__all__ = ["api_key"]

api_key = typer.Typer(help="Manage the keys of the REST API.", no_args_is_help=True)


@api_key.command("add")
def api_key_add(
    name: Annotated[str, typer.Argument(help="A name for the key: the program or the person that uses it.")],
    permission: Annotated[
        list[str], typer.Option(help="What the key may do, as in orders:write. Repeat the option for each permission.")
    ],
    tenant: Annotated[
        str | None, typer.Option(help="The only tenant that the key may work for. Optional where only one exists.")
    ] = None,
    all_tenants: Annotated[
        bool, typer.Option("--all-tenants", help="The key may work for every tenant. Each request names the tenant.")
    ] = False,
    system: Annotated[
        bool, typer.Option("--system", help="A program that sends orders uses the key: higher rate limits.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The key expires at this time, with its time zone: 2030-05-03T14:00:00+02:00. Default: never.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Create a key and show it. It cannot be shown again."""
    from lastmile.cli.inventory.api_keys import api_key_add

    run(
        api_key_add(
            name,
            permissions=permission,
            tenant=tenant,
            all_tenants=all_tenants,
            system=system,
            expires=expires,
            as_json=json,
        )
    )


@api_key.command("list")
def api_key_list(
    tenant: Annotated[str | None, typer.Option(help="Only the keys of this tenant. Default: all keys.")] = None,
    json: Json = False,
) -> None:
    """List all keys, without their secrets."""
    from lastmile.cli.inventory.api_keys import api_key_list

    run(api_key_list(tenant, json))


@api_key.command("revoke")
def api_key_revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, as `lastmile api-key list` shows it.")],
    json: Json = False,
) -> None:
    """Revoke a key. The API refuses it after at most 60 seconds."""
    from lastmile.cli.inventory.api_keys import api_key_revoke

    run(api_key_revoke(id, json))
