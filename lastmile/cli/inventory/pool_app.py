"""The commands `lastmile pool` with their options."""

from typing import Annotated

import typer

from lastmile.cli.arguments import whole_number
from lastmile.cli.exit_codes import EPILOG, run

__all__ = ["Name", "Whose", "pool"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]

pool = typer.Typer(help="Manage pools: the address space of prefixes for lines.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The pool's name.")]
Whose = Annotated[
    str | None, typer.Option("--tenant", help="The pool's tenant. Needed where several pools have this name.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PREFIX",
        help="Never assign this: a prefix, an address, or a range (198.51.100.1-198.51.100.9). Repeatable.",
    ),
]


@pool.command("add")
def pool_add(
    name: Annotated[str, typer.Argument(help="The pool's name. Orders can name it.")],
    prefix: Annotated[str, typer.Argument(help="The space of the pool, as in 2001:db8::/32.")],
    purpose: Annotated[
        str,
        typer.Option(help="ipv6_pd (delegated prefixes), ipv6_framed (/64 of the WAN link), ipv6_address, or ipv4."),
    ],
    length: Annotated[
        int,
        typer.Option(
            parser=whole_number, metavar="BITS", help="Length of each assigned prefix, in bits: 48 to 64, 128, or 32."
        ),
    ],
    tenant: Annotated[str | None, typer.Option(help="The tenant that the pool serves. Default: every tenant.")] = None,
    vrf: Annotated[str, typer.Option(help="The pool's VRF. Only pools in different VRFs may overlap.")] = "",
    region: Annotated[str | None, typer.Option(help="The pool's region. Orders can name a region.")] = None,
    country: Annotated[str | None, typer.Option(help="The pool's country (ISO 3166-1), as in NL.")] = None,
    netbox: Annotated[
        str | None,
        typer.Option(
            help="Keep the pool in NetBox. PREFIX must exist there, in the VRF of --vrf. direct: NetBox chooses each "
            "prefix. delegated: Lastmile acquires blocks from NetBox and chooses inside them."
        ),
    ] = None,
    on_release: Annotated[
        str,
        typer.Option(
            help="With --netbox: deprecate (the record stays until the quarantine ends) or delete (no quarantine: "
            "NetBox may assign the prefix again at once)."
        ),
    ] = "deprecate",
    record: Annotated[
        str | None,
        typer.Option(
            help="With --netbox delegated: the records in NetBox. block: blocks only. prefix: also each prefix. "
            "Default: block."
        ),
    ] = None,
    block_length: Annotated[
        int | None,
        typer.Option(
            parser=whole_number,
            metavar="BITS",
            help="With --netbox delegated: the length of a block, in bits. Default: a block of 4 096 prefixes.",
        ),
    ] = None,
    exclude: Exclude = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Accept special-purpose space (RFC 6890), such as documentation space, in a laboratory."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Add a pool. The same command again changes nothing, but looks up the pool's prefix in NetBox again."""
    from lastmile.cli.inventory.pools import pool_add

    values = {"name": name, "prefix": prefix, "purpose": purpose, "delegated_length": length}
    values |= {"tenant": tenant, "vrf": vrf, "region": region, "country": country, "excluded": exclude or []}
    place = {"mode": netbox, "on_release": on_release, "record": record, "block_length": block_length}
    run(pool_add(values, place if netbox else None, json, force=force))


@pool.command("list")
def pool_list(
    tenant: Annotated[str | None, typer.Option(help="Only pools that serve this tenant.")] = None, json: Json = False
) -> None:
    """List all pools with their utilization."""
    from lastmile.cli.inventory.pools import pool_list

    run(pool_list(tenant, json))


@pool.command("show")
def pool_show(
    name: Name,
    tenant: Whose = None,
    json: Json = False,
) -> None:
    """Show one pool with its utilization."""
    from lastmile.cli.inventory.pools import pool_show

    run(pool_show(name, tenant, json))


@pool.command("set", epilog=EPILOG)
def pool_set(
    name: Name,
    tenant: Whose = None,
    netbox: Annotated[
        str | None, typer.Option(help="From now on NetBox (direct) or Lastmile (delegated) chooses each prefix.")
    ] = None,
    record: Annotated[
        str | None, typer.Option(help="The records of a delegated pool in NetBox: block, or prefix (each prefix too).")
    ] = None,
    block_length: Annotated[
        int | None,
        typer.Option(
            parser=whole_number, metavar="BITS", help="The length of the next blocks of a delegated pool, in bits."
        ),
    ] = None,
    on_release: Annotated[str | None, typer.Option(help="deprecate or delete, as for `pool add`.")] = None,
    exclude: Exclude = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PREFIX", help="Remove an exclusion, or a part of one. Repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Change a pool's exclusions, or how it is kept in NetBox. Subscribers keep their prefixes.

    A worker carries out a change in NetBox. It continues after Ctrl-C. The same command again follows it, or resumes a
    change that has stopped.
    """
    from lastmile.cli.inventory.pool_set import pool_set

    if exclude or include:
        from lastmile.cli.inventory.pool_changes import pool_exclude

        if any((netbox, record, block_length, on_release)):
            raise typer.BadParameter("change exclusions and NetBox options one after the other")
        run(pool_exclude(name, tenant, exclude or [], include or [], json))
    asked = {"mode": netbox, "record": record, "block_length": block_length, "on_release": on_release}
    run(pool_set(name, tenant, {field: value for field, value in asked.items() if value is not None}, json))


@pool.command("close", epilog=EPILOG)
def pool_close(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Close a pool: it assigns no new prefix. Subscribers keep their prefixes."""
    from lastmile.cli.inventory.pool_changes import pool_close

    run(pool_close(name, tenant, json))


@pool.command("open", epilog=EPILOG)
def pool_open(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Open a closed pool: it assigns prefixes again."""
    from lastmile.cli.inventory.pool_changes import pool_open

    run(pool_open(name, tenant, json))


@pool.command("drain", epilog=EPILOG)
def pool_drain(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Close a pool and list what is left in it. The exit code is 1 until the pool is empty, then 0."""
    from lastmile.cli.inventory.pool_changes import pool_drain

    run(pool_drain(name, tenant, json))


@pool.command("remove", epilog=EPILOG)
def pool_remove(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Remove an empty pool: it has no prefix held or in quarantine, and no block in NetBox."""
    from lastmile.cli.inventory.pool_changes import pool_remove

    run(pool_remove(name, tenant, json))


@pool.command("extend", epilog=EPILOG)
def pool_extend(
    name: Name,
    prefix: Annotated[str, typer.Argument(help="The larger space: the same first address and a shorter length.")],
    tenant: Whose = None,
    json: Json = False,
) -> None:
    """Extend a pool to a larger prefix. Subscribers keep their prefixes.

    For a pool in NetBox, create the larger prefix there first.
    """
    from lastmile.cli.inventory.pool_changes import pool_extend

    run(pool_extend(name, prefix, tenant, json))
