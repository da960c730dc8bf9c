"""The options of `lastmile tenant`, `pool` and `nas`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.exits import EPILOG, run

__all__ = ["nas", "pool", "tenant"]

Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]

tenant = typer.Typer(help="The ISPs, or brands of one, that share a Lastmile.", no_args_is_help=True)
pool = typer.Typer(help="The address space that lines get their prefixes from.", no_args_is_help=True)
nas = typer.Typer(help="The access servers that take Disconnect and CoA requests.", no_args_is_help=True)

TenantId = Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits and '-': acme.")]


@tenant.command("add")
def tenant_add(
    id: TenantId, name: Annotated[str, typer.Option(help="What people call it.")], json: Json = False
) -> None:
    """Add a tenant; the same one again changes nothing."""
    from cli.inventory import tenant_add

    run(tenant_add(id, name, json))


@tenant.command("list")
def tenant_list(json: Json = False) -> None:
    """All tenants."""
    from cli.inventory import tenant_list

    run(tenant_list(json))


@tenant.command("show")
def tenant_show(id: TenantId, json: Json = False) -> None:
    """One tenant, with its pools and how many subscribers it has."""
    from cli.inventory import tenant_show

    run(tenant_show(id, json))


@pool.command("add")
def pool_add(
    name: Annotated[str, typer.Argument(help="Its name, for orders that ask for it.")],
    prefix: Annotated[str, typer.Argument(help="The whole space, as in 2001:db8::/32.")],
    purpose: Annotated[
        str,
        typer.Option(help="ipv6_pd (delegated prefixes), ipv6_framed (/64 of the WAN link), ipv6_address, or ipv4."),
    ],
    length: Annotated[int, typer.Option(help="Length of each prefix handed out, in bits: 48 to 64, 128, or 32.")],
    tenant: Annotated[str | None, typer.Option(help="Whom it serves; without it, every tenant.")] = None,
    vrf: Annotated[str, typer.Option(help="Pools overlap only where their VRFs differ.")] = "",
    region: Annotated[str | None, typer.Option(help="For orders that ask for a region.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166-1, as in NL.")] = None,
    netbox: Annotated[
        str | None,
        typer.Option(
            help="PREFIX is in NetBox already, in the VRF of this name. direct: NetBox chooses from it; delegated: "
            "Lastmile does, in blocks that it takes out of it."
        ),
    ] = None,
    on_release: Annotated[
        str,
        typer.Option(
            help="With --netbox: deprecate (the record stays until the prefix has rested) or delete (NetBox may "
            "give the prefix away at once)."
        ),
    ] = "deprecate",
    record: Annotated[
        str | None,
        typer.Option(
            help="With --netbox delegated, what NetBox is told of: block (the default), or prefix, each of them."
        ),
    ] = None,
    block_length: Annotated[
        int | None,
        typer.Option(help="With --netbox delegated: the length of a block, in bits; by default one of 4 096 prefixes."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Take space that is not for subscribers, such as documentation, in a laboratory."),
    ] = False,
    json: Json = False,
) -> None:
    """Add a pool; the same one again changes nothing, but finds it anew in NetBox."""
    from cli.inventory import pool_add

    values = {"name": name, "prefix": prefix, "purpose": purpose, "delegated_length": length}
    values |= {"tenant": tenant, "vrf": vrf, "region": region, "country": country}
    place = {"mode": netbox, "on_release": on_release, "record": record, "block_length": block_length}
    run(pool_add(values, place if netbox else None, json, force=force))


@pool.command("list")
def pool_list(
    tenant: Annotated[str | None, typer.Option(help="Only those that serve this tenant.")] = None, json: Json = False
) -> None:
    """All pools, and how full they are."""
    from cli.inventory import pool_list

    run(pool_list(tenant, json))


@pool.command("show")
def pool_show(
    name: Annotated[str, typer.Argument(help="The pool's name.")],
    tenant: Annotated[str | None, typer.Option(help="Whose, where several have a pool of this name.")] = None,
    json: Json = False,
) -> None:
    """One pool, and how full it is."""
    from cli.inventory import pool_show

    run(pool_show(name, tenant, json))


@pool.command("set", epilog=EPILOG)
def pool_set(
    name: Annotated[str, typer.Argument(help="The pool's name.")],
    tenant: Annotated[str | None, typer.Option(help="Whose, where several have a pool of this name.")] = None,
    netbox: Annotated[
        str | None, typer.Option(help="Who chooses its prefixes from now on: direct (NetBox) or delegated (Lastmile).")
    ] = None,
    record: Annotated[
        str | None, typer.Option(help="What NetBox is told of a delegated pool: block, or prefix, each of them.")
    ] = None,
    block_length: Annotated[
        int | None, typer.Option(help="Of the blocks that a delegated pool takes from now on, in bits.")
    ] = None,
    on_release: Annotated[str | None, typer.Option(help="deprecate or delete, as of `pool add`.")] = None,
    json: Json = False,
) -> None:
    """Change how a pool is kept in NetBox, while orders go on. Subscribers keep their prefixes.

    Cut off at any moment, the same command again goes on.
    """
    from cli.pool_set import pool_set

    asked = {"mode": netbox, "record": record, "block_length": block_length, "on_release": on_release}
    run(pool_set(name, tenant, {field: value for field, value in asked.items() if value is not None}, json))


@nas.command("add")
def nas_add(
    address: Annotated[str, typer.Argument(help="Its IP address.")],
    name: Annotated[str, typer.Option(help="A short name.")],
    secret_file: Annotated[
        Path | None, typer.Option(help="Holds the RADIUS secret; without it, the secret is asked for.")
    ] = None,
    coa_port: Annotated[int, typer.Option(help="Where it takes Disconnect and CoA requests (RFC 5176).")] = 3799,
    json: Json = False,
) -> None:
    """Add a NAS; the same one again changes nothing."""
    from cli.inventory import nas_add

    secret = secret_file or str(typer.prompt("RADIUS secret", hide_input=True))
    run(nas_add(address, name, secret, coa_port, json))


@nas.command("list")
def nas_list(json: Json = False) -> None:
    """All NAS; their secrets are never shown."""
    from cli.inventory import nas_list

    run(nas_list(json))


@nas.command("show")
def nas_show(name: Annotated[str, typer.Argument(help="Its name or address.")], json: Json = False) -> None:
    """One NAS; its secret is never shown."""
    from cli.inventory import nas_show

    run(nas_show(name, json))
