"""The commands that each send one order of one subscriber."""

from typing import Annotated

import typer

from lastmile.cli.arguments import whole_number
from lastmile.cli.orders.order_command import Content, order_command

__all__ = ["order_commands"]

order_commands = typer.Typer()

Reason = Annotated[str, typer.Option(help="The reason, kept in the history. Do not enter personal data.")]


@order_command(order_commands)
def deprovision(reason: Reason) -> Content:
    """Terminate a subscriber's service: end the session, release the addresses, close the record."""
    return {"reason": reason}


@order_command(order_commands)
def renumber(
    purpose: Annotated[
        str | None, typer.Option(help="ipv6_pd, ipv6_framed, ipv6_address or ipv4. Default: ipv6_pd.")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(help="The pool of the new prefix. Default: any pool of the same length, VRF and region."),
    ] = None,
    overlap_hours: Annotated[
        int | None,
        typer.Option(
            parser=whole_number,
            metavar="NUMBER",
            help="The hours for which the line keeps the old prefix, 0 to 720. Default: 2.",
        ),
    ] = None,
) -> Content:
    """Give a line another prefix, and keep the old prefix beside it for an overlap.

    The command waits for the end of the overlap. Interrupt it, and the order continues.
    """
    return {"purpose": purpose, "pool": pool, "overlap_hours": overlap_hours}


@order_command(order_commands)
def change_addressing(
    ipv6_mode: Annotated[
        str | None, typer.Option(help="none, slaac, stateful, pd, dual_stack or unchanged. Default: pd.")
    ] = None,
    ipv6_pd_size: Annotated[
        int | None,
        typer.Option(
            parser=whole_number, metavar="NUMBER", help="The length of the delegated prefix, 48 to 64. Default: 56."
        ),
    ] = None,
    ipv6_pool: Annotated[str | None, typer.Option(help="The pool of the IPv6 prefix. Default: any.")] = None,
    ipv4_mode: Annotated[str | None, typer.Option(help="none, dynamic, static or unchanged. Default: none.")] = None,
    ipv4_address: Annotated[
        str | None, typer.Option(help="With static: exactly this address. Default: any free address.")
    ] = None,
    ipv4_pool: Annotated[str | None, typer.Option(help="The pool of the IPv4 address. Default: any.")] = None,
    region: Annotated[str | None, typer.Option(help="Only pools of this region.")] = None,
    vrf: Annotated[str | None, typer.Option(help="The VRF of all addresses. Default: the default VRF.")] = None,
) -> Content:
    """Change the addresses of a line to exactly those that the options describe. Addresses that fit stay."""
    return {
        "addressing": {
            "ipv6_mode": ipv6_mode,
            "ipv6_pd_size": ipv6_pd_size,
            "ipv6_pool": ipv6_pool,
            "ipv4_mode": ipv4_mode,
            "ipv4_address": ipv4_address,
            "ipv4_pool": ipv4_pool,
            "region": region,
            "vrf": vrf,
        }
    }


@order_command(order_commands)
def update_customer(
    name: Annotated[str | None, typer.Option(help="The correct name.")] = None,
    email: Annotated[str | None, typer.Option(help="The correct e-mail address.")] = None,
    phone: Annotated[str | None, typer.Option(help="The correct telephone number.")] = None,
) -> Content:
    """Correct the data of a subscriber's customer, for all lines of the customer."""
    return {"name": name, "email": email, "phone": phone}


@order_command(order_commands)
def rotate_credentials() -> Content:
    """Give a line another password, which takes effect at the next login. `lastmile credentials` shows it."""
    return {}


@order_command(order_commands)
def replace_device(
    onu_serial: Annotated[str | None, typer.Option(help="The serial number of the new ONU.")] = None,
    onu_type: Annotated[
        str | None, typer.Option(help="The type of the new ONU, as the OLT controller names it.")
    ] = None,
    speed_profile: Annotated[
        str | None, typer.Option(help="The profile of the OLT that has the rates of the plan.")
    ] = None,
    cpe_mac: Annotated[str | None, typer.Option(help="The MAC address of the new CPE.")] = None,
    cpe_oui: Annotated[str | None, typer.Option(help="The OUI of the new CPE, as in 00D09E (TR-069).")] = None,
    cpe_product_class: Annotated[
        str | None, typer.Option(help="The product class of the new CPE (TR-069). Default: it has none.")
    ] = None,
    cpe_serial: Annotated[str | None, typer.Option(help="The serial number of the new CPE (TR-069).")] = None,
    duid: Annotated[str | None, typer.Option(help="The DUID of the new CPE, as hexadecimal digits (RFC 8415).")] = None,
) -> Content:
    """Put another ONU or CPE into service on a subscriber's line, in place of the present one.

    Without the name of another ONU or CPE, the options correct what the line has.
    """
    return {
        "onu_serial": onu_serial,
        "onu_type": onu_type,
        "speed_profile": speed_profile,
        "cpe_mac": cpe_mac,
        "cpe_oui": cpe_oui,
        "cpe_product_class": cpe_product_class,
        "cpe_serial": cpe_serial,
        "duid": duid,
    }


@order_command(order_commands)
def relocate(
    olt: Annotated[str | None, typer.Option(help="The new OLT.")] = None,
    pon_port: Annotated[str | None, typer.Option(help="The new port of the OLT.")] = None,
    s_vlan: Annotated[
        int | None, typer.Option(parser=whole_number, metavar="NUMBER", help="The new outer VLAN id.")
    ] = None,
    c_vlan: Annotated[
        int | None, typer.Option(parser=whole_number, metavar="NUMBER", help="The new inner VLAN id.")
    ] = None,
    circuit_id: Annotated[str | None, typer.Option(help="The new circuit id (option 82, sub-option 1).")] = None,
    remote_id: Annotated[str | None, typer.Option(help="The new remote id (option 82, sub-option 2).")] = None,
    speed_profile: Annotated[
        str | None, typer.Option(help="The profile of the new OLT that has the rates of the plan.")
    ] = None,
) -> Content:
    """Move a subscriber's line to another OLT port, other VLANs or another circuit id."""
    return {
        "olt": olt,
        "pon_port": pon_port,
        "s_vlan": s_vlan,
        "c_vlan": c_vlan,
        "circuit_id": circuit_id,
        "remote_id": remote_id,
        "speed_profile": speed_profile,
    }


@order_command(
    order_commands,
    {"plan.name": "--plan", "plan.download_kbps": "--download", "plan.upload_kbps": "--upload"},
)
def change_plan(
    plan: Annotated[str, typer.Option(help="The name of the new plan.")],
    download: Annotated[
        int, typer.Option(parser=whole_number, metavar="KBPS", help="The download rate of the new plan in kbit/s.")
    ],
    upload: Annotated[
        int, typer.Option(parser=whole_number, metavar="KBPS", help="The upload rate of the new plan in kbit/s.")
    ],
    price_ref: Annotated[str | None, typer.Option(help="The billing system's reference to the price.")] = None,
    on_refusal: Annotated[
        str | None,
        typer.Option(
            metavar="next_login|disconnect",
            help="What happens to a live session whose NAS does not take the new rates. Default: next_login.",
        ),
    ] = None,
    speed_profile: Annotated[
        str | None, typer.Option(help="The profile of the OLT that has the rates of the new plan. Default: none.")
    ] = None,
) -> Content:
    """Give a subscriber's line another plan. Live sessions get the new rates where their NAS allows it."""
    new = {"name": plan, "download_kbps": download, "upload_kbps": upload, "price_ref": price_ref}
    return {"plan": new, "on_refusal": on_refusal, "speed_profile": speed_profile}


@order_command(order_commands, {"customer.ref": "--customer"})
def transfer(
    customer: Annotated[str, typer.Option(help="The reference of the customer who gets the line.")],
    name: Annotated[str, typer.Option(help="The name of the customer. A customer that exists keeps its name.")],
    email: Annotated[str | None, typer.Option(help="The e-mail address of a new customer.")] = None,
    phone: Annotated[str | None, typer.Option(help="The telephone number of a new customer.")] = None,
) -> Content:
    """Give a subscriber's line to another customer, who pays from now on."""
    return {"customer": {"ref": customer, "name": name, "email": email, "phone": phone}}


@order_command(order_commands)
def suspend(
    reason: Reason,
    mode: Annotated[
        str,
        typer.Option(
            help="block (every login is refused), walled_garden (only the operator's pages) or slow (the slow rate).",
        ),
    ],
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The time at which the line resumes by itself, with its time zone."),
    ] = None,
) -> Content:
    """Suspend a subscriber's line: no charges, blocked or limited internet access. The line keeps its addresses."""
    return {"reason": reason, "mode": mode, "until": until}


@order_command(order_commands)
def resume(
    suspended_by: Annotated[
        str | None,
        typer.Option(metavar="ORDER", help="Resume the line only if this order has suspended it."),
    ] = None,
) -> Content:
    """Put a suspended line into service again."""
    return {"suspended_by": suspended_by}
