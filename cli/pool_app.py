"""The options of `lastmile pool`."""

from typing import Annotated

import typer

from cli.exits import EPILOG, run

__all__ = ["pool"]

Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]

pool = typer.Typer(help="The address space that lines get their prefixes from.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The pool's name.")]
Whose = Annotated[str | None, typer.Option("--tenant", help="Whose, where several have a pool of this name.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PREFIX",
        help="Never hand this out: a prefix, an address, or a range (198.51.100.1-198.51.100.9). Repeatable.",
    ),
]


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
    exclude: Exclude = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Take space that is not for subscribers, such as documentation, in a laboratory."),
    ] = False,
    json: Json = False,
) -> None:
    """Add a pool; the same one again changes nothing, but finds it anew in NetBox."""
    from cli.inventory import pool_add

    values = {"name": name, "prefix": prefix, "purpose": purpose, "delegated_length": length}
    values |= {"tenant": tenant, "vrf": vrf, "region": region, "country": country, "excluded": exclude or []}
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
    name: Name,
    tenant: Whose = None,
    json: Json = False,
) -> None:
    """One pool, and how full it is."""
    from cli.inventory import pool_show

    run(pool_show(name, tenant, json))


@pool.command("set", epilog=EPILOG)
def pool_set(
    name: Name,
    tenant: Whose = None,
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
    exclude: Exclude = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PREFIX", help="Take an exclusion, or a part of one, back. Repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Change a pool while orders go on: its exclusions, or how it is kept in NetBox. Subscribers keep their prefixes.

    After an interruption, the same command goes on.
    """
    from cli.pool_set import pool_set

    if exclude or include:
        from cli.pool_changes import pool_exclude

        if any((netbox, record, block_length, on_release)):
            raise typer.BadParameter("change exclusions and NetBox options one after the other")
        run(pool_exclude(name, tenant, exclude or [], include or [], json))
    asked = {"mode": netbox, "record": record, "block_length": block_length, "on_release": on_release}
    run(pool_set(name, tenant, {field: value for field, value in asked.items() if value is not None}, json))


@pool.command("close", epilog=EPILOG)
def pool_close(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Give no new prefix out of a pool. Subscribers keep theirs."""
    from cli.pool_changes import pool_close

    run(pool_close(name, tenant, json))


@pool.command("open", epilog=EPILOG)
def pool_open(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Give prefixes out of a closed pool again."""
    from cli.pool_changes import pool_open

    run(pool_open(name, tenant, json))


@pool.command("drain", epilog=EPILOG)
def pool_drain(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Close a pool and tell what is left in it. The exit code is 0 once it is empty, and 1 until then."""
    from cli.pool_changes import pool_drain

    run(pool_drain(name, tenant, json))


@pool.command("remove", epilog=EPILOG)
def pool_remove(name: Name, tenant: Whose = None, json: Json = False) -> None:
    """Remove a pool that is empty: no prefix is held or in quarantine, and NetBox has no block for it."""
    from cli.pool_changes import pool_remove

    run(pool_remove(name, tenant, json))


@pool.command("extend", epilog=EPILOG)
def pool_extend(
    name: Name,
    prefix: Annotated[
        str, typer.Argument(help="The longer space. It begins at the same address and has a shorter length.")
    ],
    tenant: Whose = None,
    json: Json = False,
) -> None:
    """Extend a pool to a prefix of a shorter length. Subscribers keep their prefixes.

    A pool in NetBox: make the longer prefix there first.
    """
    from cli.pool_changes import pool_extend

    run(pool_extend(name, prefix, tenant, json))
