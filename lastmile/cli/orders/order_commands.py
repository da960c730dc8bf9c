"""The commands that each send one order of one subscriber."""

from typing import Annotated

import typer

from lastmile.cli.arguments import whole_number
from lastmile.cli.exit_codes import EPILOG, run
from lastmile.cli.options import DryRun, Json, NotBefore, OrderId, Subscriber, Tenant

__all__ = ["order_commands"]

order_commands = typer.Typer()


@order_commands.command(epilog=EPILOG)
def deprovision(
    subscriber: Subscriber,
    reason: Annotated[str, typer.Option(help="The reason, kept in the history. Do not enter personal data.")],
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Terminate a subscriber's service: end the session, release the addresses, close the record."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import DeprovisionSubscriber

    run(
        run_order(
            DeprovisionSubscriber,
            subscriber,
            {"reason": reason},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )


@order_commands.command(epilog=EPILOG)
def renumber(
    subscriber: Subscriber,
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
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a line another prefix, and keep the old prefix beside it for an overlap.

    The command waits for the end of the overlap. Interrupt it, and the order continues.
    """
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import Renumber

    run(
        run_order(
            Renumber,
            subscriber,
            {"purpose": purpose, "pool": pool, "overlap_hours": overlap_hours},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )


@order_commands.command("change-addressing", epilog=EPILOG)
def change_addressing(
    subscriber: Subscriber,
    ipv6_mode: Annotated[str | None, typer.Option(help="none, slaac, stateful, pd or dual_stack. Default: pd.")] = None,
    ipv6_pd_size: Annotated[
        int | None,
        typer.Option(
            parser=whole_number, metavar="NUMBER", help="The length of the delegated prefix, 48 to 64. Default: 56."
        ),
    ] = None,
    ipv6_pool: Annotated[str | None, typer.Option(help="The pool of the IPv6 prefix. Default: any.")] = None,
    ipv4_mode: Annotated[str | None, typer.Option(help="none, dynamic or static. Default: none.")] = None,
    ipv4_address: Annotated[
        str | None, typer.Option(help="With static: exactly this address. Default: any free address.")
    ] = None,
    ipv4_pool: Annotated[str | None, typer.Option(help="The pool of the IPv4 address. Default: any.")] = None,
    region: Annotated[str | None, typer.Option(help="Only pools of this region.")] = None,
    vrf: Annotated[str | None, typer.Option(help="The VRF of all addresses. Default: the default VRF.")] = None,
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change the addresses of a line to exactly those that the options describe. Addresses that fit stay."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import ChangeAddressing

    given = {
        "ipv6_mode": ipv6_mode,
        "ipv6_pd_size": ipv6_pd_size,
        "ipv6_pool": ipv6_pool,
        "ipv4_mode": ipv4_mode,
        "ipv4_address": ipv4_address,
        "ipv4_pool": ipv4_pool,
        "region": region,
        "vrf": vrf,
    }
    run(
        run_order(
            ChangeAddressing,
            subscriber,
            {"addressing": {field: value for field, value in given.items() if value is not None}},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
            options={f"addressing.{field}": f"--{field.replace('_', '-')}" for field in given},
        )
    )


@order_commands.command("update-customer", epilog=EPILOG)
def update_customer(
    subscriber: Subscriber,
    name: Annotated[str | None, typer.Option(help="The correct name.")] = None,
    email: Annotated[str | None, typer.Option(help="The correct e-mail address.")] = None,
    phone: Annotated[str | None, typer.Option(help="The correct telephone number.")] = None,
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Correct the data of a subscriber's customer, for all lines of the customer."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import UpdateCustomer

    run(
        run_order(
            UpdateCustomer,
            subscriber,
            {"name": name, "email": email, "phone": phone},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )


@order_commands.command("rotate-credentials", epilog=EPILOG)
def rotate_credentials(
    subscriber: Subscriber,
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a line another password, which takes effect at the next login. `lastmile credentials` shows it."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import RotateCredentials

    run(
        run_order(
            RotateCredentials,
            subscriber,
            {},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )


@order_commands.command("replace-device", epilog=EPILOG)
def replace_device(
    subscriber: Subscriber,
    onu_serial: Annotated[str | None, typer.Option(help="The serial number of the new ONU.")] = None,
    cpe_mac: Annotated[str | None, typer.Option(help="The MAC address of the new CPE.")] = None,
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put another ONU or CPE into service on a subscriber's line, in place of the present one."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import ReplaceDevice

    run(
        run_order(
            ReplaceDevice,
            subscriber,
            {"onu_serial": onu_serial, "cpe_mac": cpe_mac},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )


@order_commands.command(epilog=EPILOG)
def relocate(
    subscriber: Subscriber,
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
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Move a subscriber's line to another OLT port, other VLANs or another circuit id."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import RelocateLine

    run(
        run_order(
            RelocateLine,
            subscriber,
            {
                "olt": olt,
                "pon_port": pon_port,
                "s_vlan": s_vlan,
                "c_vlan": c_vlan,
                "circuit_id": circuit_id,
                "remote_id": remote_id,
            },
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )


@order_commands.command("change-plan", epilog=EPILOG)
def change_plan(
    subscriber: Subscriber,
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
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a subscriber's line another plan. Live sessions get the new rates where their NAS allows it."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import ChangePlan

    new = {"name": plan, "download_kbps": download, "upload_kbps": upload, "price_ref": price_ref}
    run(
        run_order(
            ChangePlan,
            subscriber,
            {"plan": new, "on_refusal": on_refusal},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
            options={
                "plan.name": "--plan",
                "plan.download_kbps": "--download",
                "plan.upload_kbps": "--upload",
                "plan.price_ref": "--price-ref",
            },
        )
    )


@order_commands.command(epilog=EPILOG)
def transfer(
    subscriber: Subscriber,
    customer: Annotated[str, typer.Option(help="The reference of the customer who gets the line.")],
    name: Annotated[str, typer.Option(help="The name of the customer. A customer that exists keeps its name.")],
    email: Annotated[str | None, typer.Option(help="The e-mail address of a new customer.")] = None,
    phone: Annotated[str | None, typer.Option(help="The telephone number of a new customer.")] = None,
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a subscriber's line to another customer, who pays from now on."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import TransferLine

    values = {"ref": customer, "name": name, "email": email, "phone": phone}
    run(
        run_order(
            TransferLine,
            subscriber,
            {"customer": {field: value for field, value in values.items() if value is not None}},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
            options={**{f"customer.{field}": f"--{field}" for field in values}, "customer.ref": "--customer"},
        )
    )


@order_commands.command(epilog=EPILOG)
def suspend(
    subscriber: Subscriber,
    reason: Annotated[str, typer.Option(help="The reason, kept in the history. Do not enter personal data.")],
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
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Suspend a subscriber's line: no charges, blocked or limited internet access. The line keeps its addresses."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import SuspendSubscriber

    run(
        run_order(
            SuspendSubscriber,
            subscriber,
            {"reason": reason, "mode": mode, "until": until},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )


@order_commands.command(epilog=EPILOG)
def resume(
    subscriber: Subscriber,
    suspended_by: Annotated[
        str | None,
        typer.Option(metavar="ORDER", help="Resume the line only if this order has suspended it."),
    ] = None,
    tenant: Tenant = None,
    order_id: OrderId = None,
    not_before: NotBefore = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put a suspended line into service again."""
    from lastmile.cli.orders.single_order import run_order
    from lastmile.contract import ResumeSubscriber

    run(
        run_order(
            ResumeSubscriber,
            subscriber,
            {"suspended_by": suspended_by},
            tenant=tenant,
            order_id=order_id,
            not_before=not_before,
            dry_run=dry_run,
            as_json=json,
        )
    )
