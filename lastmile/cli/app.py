"""The top-level commands with their options. A command imports its code when it runs: `--help` is fast."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lastmile.cli.arguments import number, whole_number
from lastmile.cli.exit_codes import EPILOG, run
from lastmile.cli.inventory.acs_app import acs
from lastmile.cli.inventory.api_key_app import api_key
from lastmile.cli.inventory.controller_app import controller
from lastmile.cli.inventory.nas_app import nas
from lastmile.cli.inventory.pool_app import pool
from lastmile.cli.inventory.radius_app import radius
from lastmile.cli.inventory.renumbering_app import renumber_pool_command, renumbering
from lastmile.cli.inventory.tenant_app import tenant
from lastmile.cli.netbox.netbox_app import netbox
from lastmile.cli.operations.hooks_app import hooks
from lastmile.cli.operations.schedule_app import schedule
from lastmile.cli.options import Json, Subscriber, Tenant
from lastmile.cli.orders.order_commands import order_commands
from lastmile.cli.orders.scheduled_app import scheduled

__all__ = ["app"]

app = typer.Typer(
    help="Provision, change and deprovision broadband lines.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(tenant, name="tenant")
app.add_typer(pool, name="pool")
app.add_typer(nas, name="nas")
app.add_typer(controller, name="controller")
app.add_typer(acs, name="acs")
app.add_typer(radius, name="radius")
app.add_typer(api_key, name="api-key")
app.add_typer(hooks, name="hooks")
app.add_typer(netbox, name="netbox")
app.add_typer(scheduled, name="scheduled")
app.add_typer(schedule, name="schedule")
app.add_typer(order_commands)
app.add_typer(renumber_pool_command)
app.add_typer(renumbering, name="renumbering")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"lastmile {version('lastmile')}")
        raise typer.Exit


@app.callback()
def lastmile(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version of Lastmile.")
    ] = False,
) -> None:
    pass


@app.command()
def up() -> None:
    """Run the embedded stack until Ctrl-C: PostgreSQL, Temporal, FreeRADIUS, a NAS, a worker, the API."""
    from lastmile.cli.demo.stack import up

    run(up())


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the stack running until Ctrl-C.")] = False,
) -> None:
    """Provision seven lines and deprovision one on a stack of real servers, and explain each stage."""
    from lastmile.cli.demo.stack import demo

    run(demo(keep))


@app.command()
def migrate(json: Json = False) -> None:
    """Update the database schema, as the owner of its tables (DATABASE_OWNER_URL or DATABASE_URL)."""
    from lastmile.cli.operations.migration import migrate

    run(migrate(as_json=json))


@app.command(epilog=EPILOG)
def provision(
    file: Annotated[
        str, typer.Argument(help="The orders, as JSON Lines, a JSON array or CSV; - reads standard input.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Validate the file and start nothing. Needs no server.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what each order would create, reuse or refuse, and start nothing. At most 1 000 orders.",
        ),
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option(help="The file for rejected orders. Default: beside FILE, as orders.rejects.jsonl.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the orders of a file, and wait until each has ended.

    Invalid, refused and rolled-back orders are written to the file of rejects with the reason. Fix them there and
    submit that file. The same file again continues the import: an order that has ended does not run again.
    """
    if check:
        from lastmile.cli.orders.provisioning import check as check_file

        run(check_file(file, as_json=json))
    if dry_run:
        from lastmile.cli.orders.dry_run import show_plans

        run(show_plans(file, json))
    from lastmile.cli.orders.provisioning import provision

    run(provision(file, rejects=rejects, as_json=json))


@app.command(epilog=EPILOG)
def export(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant. Default: all tenants.")] = None,
    format: Annotated[
        Literal["jsonl", "csv"] | None,
        typer.Option(help="The format. Default: by the extension of the output file, otherwise jsonl."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The output file. Default: standard output.")
    ] = None,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="Print orders for another installation that adopt the lines, with their addresses and passwords.",
        ),
    ] = False,
) -> None:
    """Print every live subscriber as the order that would provision it."""
    from lastmile.cli.orders.export import export

    run(export(tenant=tenant, form=format, output=output, adopt=adopt))


@app.command(name="import-radius", epilog=EPILOG)
def import_radius(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The PostgreSQL database of FreeRADIUS: postgresql://user:password@host/name."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of orders to write, as JSON Lines.")],
    tenant: Annotated[str | None, typer.Option(help="The tenant of the lines. Optional where only one exists.")] = None,
    connection_type: Annotated[
        Literal["ftth", "fttb", "wireless", "hybrid"], typer.Option(help="The connection type of every line.")
    ] = "ftth",
    report: Annotated[
        Path | None, typer.Option(help="The report of what does not fit, as CSV. Default: beside the orders.")
    ] = None,
    json: Json = False,
) -> None:
    """Write orders that adopt the accounts of another FreeRADIUS database, and a report of what does not fit."""
    from lastmile.cli.orders.radius_import import import_radius

    run(import_radius(url, tenant=tenant, connection_type=connection_type, output=output, report=report, as_json=json))


@app.command()
def cancel(subscriber: Subscriber, tenant: Tenant = None, json: Json = False) -> None:
    """Cancel the running order of a subscriber. The order undoes its steps."""
    from lastmile.cli.orders.cancellation import cancel

    run(cancel(subscriber, tenant, json))


Why = Annotated[str, typer.Option(help="The reason, kept in the history. Do not enter personal data.")]
By = Annotated[str | None, typer.Option(help="The person who decides. Default: your login.")]
Step = Annotated[str | None, typer.Option(help="Decide only if this step is parked. Default: any parked step.")]


@app.command(epilog=EPILOG)
def attention(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant. Default: all tenants.")] = None,
    step: Annotated[str | None, typer.Option(help="Only orders that are parked at this step.")] = None,
    decide: Annotated[
        Literal["retry", "skip", "abandon"] | None,
        typer.Option(help="Release all listed orders. skip and abandon need --step."),
    ] = None,
    why: Annotated[
        str | None, typer.Option(help="With --decide: the reason, kept in the history. Do not enter personal data.")
    ] = None,
    by: By = None,
    json: Json = False,
) -> None:
    """List the orders that wait for an operator, oldest first. With --decide, release them."""
    from lastmile.cli.orders.attention import attention

    run(attention(tenant=tenant, step=step, decide=decide, why=why, by=by, as_json=json))


@app.command()
def retry(
    subscriber: Subscriber, why: Why, tenant: Tenant = None, by: By = None, step: Step = None, json: Json = False
) -> None:
    """Release a parked order: try its step again. Fix the cause first."""
    from lastmile.cli.orders.decisions import release

    run(release("retry", subscriber, tenant=tenant, why=why, by=by, step=step, as_json=json))


@app.command()
def skip(
    subscriber: Subscriber, why: Why, tenant: Tenant = None, by: By = None, step: Step = None, json: Json = False
) -> None:
    """Release a parked order: continue without its step. Do the step by hand first, if it is needed."""
    from lastmile.cli.orders.decisions import release

    run(release("skip", subscriber, tenant=tenant, why=why, by=by, step=step, as_json=json))


@app.command()
def abandon(
    subscriber: Subscriber, why: Why, tenant: Tenant = None, by: By = None, step: Step = None, json: Json = False
) -> None:
    """Release a parked order: end it, and undo nothing."""
    from lastmile.cli.orders.decisions import release

    run(release("abandon", subscriber, tenant=tenant, why=why, by=by, step=step, as_json=json))


@app.command()
def status(
    subscriber: Subscriber,
    tenant: Tenant = None,
    show_password: Annotated[bool, typer.Option("--show-password", help="Also print the RADIUS password.")] = False,
    json: Json = False,
) -> None:
    """Show a subscriber's records, its orders, and the steps of a running order."""
    from lastmile.cli.orders.status import status

    run(status(subscriber, tenant=tenant, password=show_password, as_json=json))


@app.command(epilog=EPILOG)
def audit(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant. Default: all tenants.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair the findings that are safe to repair, and list the repairs.")
    ] = False,
    json: Json = False,
) -> None:
    """Check the invariants: no address given twice, none lost, RADIUS consistent, orders complete."""
    from lastmile.cli.operations.audit import audit

    run(audit(tenant=tenant, repairing=repair, as_json=json))


@app.command(epilog=EPILOG)
def acknowledge(
    invariant: Annotated[str, typer.Argument(help="The invariant, as `lastmile audit` prints it.")],
    subject: Annotated[str, typer.Argument(help="The subject, as `lastmile audit` prints it.")],
    why: Why,
    tenant: Annotated[
        str | None,
        typer.Option(help="The tenant of the finding. Needed where several tenants have a finding of this subject."),
    ] = None,
    by: By = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Withdraw the acknowledgement.")] = False,
    json: Json = False,
) -> None:
    """Acknowledge a finding of the audit: it raises no alert, and `lastmile audit` lists it separately.

    The acknowledgement is for this finding in its present words. A finding that changes or comes back counts again.
    """
    from lastmile.cli.operations.acknowledgement import acknowledge

    run(acknowledge(invariant, subject, tenant=tenant, why=why, by=by, withdrawn=withdraw, as_json=json))


@app.command(epilog=EPILOG)
def credentials(subscriber: Subscriber, tenant: Tenant = None, json: Json = False) -> None:
    """Show the user name and the password of a line, to set up its CPE. The audit log records the read."""
    from lastmile.cli.orders.credentials import credentials

    run(credentials(subscriber, tenant=tenant, as_json=json))


@app.command(epilog=EPILOG)
def history(
    about: Annotated[
        str, typer.Argument(metavar="SUBSCRIBER|PREFIX", help="A subscriber's reference, or a prefix or address.")
    ],
    tenant: Annotated[
        str | None, typer.Option(help="The subscriber's tenant. Optional where only one tenant exists.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Show the holder of the prefix at this time: ISO 8601, UTC without an offset."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Omit anything that ended before this time.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the changes of a subscriber's records, or the holders of a prefix, with times."""
    from lastmile.cli.orders.history import history

    run(history(about, tenant=tenant, at=at, since=since, as_json=json))


@app.command(epilog=EPILOG)
def devices(
    subscriber: Annotated[
        str | None, typer.Argument(metavar="[SUBSCRIBER]", help="A subscriber, to list all of its devices.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Ask the controllers now, as when the technician has connected the devices.")
    ] = False,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """List the ONUs and CPEs that have yet to follow their controllers, the longest waiting first."""
    from lastmile.cli.operations.devices import devices

    run(devices(subscriber, tenant=tenant, retry=retry, as_json=json))


@app.command(epilog=EPILOG)
def drop_device_call(
    subscriber: Subscriber,
    device: Annotated[str, typer.Argument(help="The serial number or MAC address, as `lastmile devices` shows it.")],
    why: Why,
    tenant: Tenant = None,
    by: By = None,
    json: Json = False,
) -> None:
    """End the call that waits for a device which will never follow, such as one that was scrapped.

    Workers ask its controller no more. The state of the device stays unconfirmed. Refused while an order of the
    subscriber runs.
    """
    from lastmile.cli.operations.devices import drop_device_call

    run(drop_device_call(subscriber, device, tenant=tenant, why=why, by=by, as_json=json))


@app.command(epilog=EPILOG)
def purge(json: Json = False) -> None:
    """Delete entries of the audit log and events of ended delegations older than LASTMILE_AUDIT_DAYS."""
    from lastmile.cli.operations.purge import purge

    run(purge(as_json=json))


@app.command(name="forget-customer", epilog=EPILOG)
def forget_customer(
    customer: Annotated[str, typer.Argument(help="The reference of the customer.")],
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Delete the name, e-mail and phone of a former customer, in the audit log and in Temporal too.

    What tells who had an address at a time stays, by the references of customer and subscriber.
    """
    from lastmile.cli.operations.forget_customer import forget_customer

    run(forget_customer(customer, tenant, as_json=json))


@app.command(epilog=EPILOG)
def api(
    processes: Annotated[
        int,
        typer.Option(parser=whole_number, metavar="N", help="Processes that share the port of the API."),
    ] = 1,
) -> None:
    """Serve the REST API until Ctrl-C. Its reference is at /docs of its address."""
    from lastmile.cli.operations.api import api

    run(api(processes))


@app.command(name="codec-server", epilog=EPILOG)
def codec_server() -> None:
    """Serve the codec for the Temporal UI and command until Ctrl-C: decrypt payloads for authorized users."""
    from lastmile.cli.operations.codec_server import codec_server

    run(codec_server())


@app.command(epilog=EPILOG)
def cleanup(
    revoked_days: Annotated[
        float,
        typer.Option(
            parser=number, metavar="NUMBER", help="Delete delegations that were released more than this many days ago."
        ),
    ] = 90,
    allocated_hours: Annotated[
        float,
        typer.Option(
            parser=number,
            metavar="NUMBER",
            help="Report prefixes that are allocated for longer than this and not active.",
        ),
    ] = 24,
    revoking_hours: Annotated[
        float,
        typer.Option(
            parser=number, metavar="NUMBER", help="Complete revocations that began more than this many hours ago."
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and list what the cleanup would do, and change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Run the daily cleanup now: stuck revocations, leaks, old records. Needs a worker."""
    from lastmile.cli.operations.cleanup import cleanup

    limits = {"revoked_days": revoked_days, "allocated_hours": allocated_hours, "revoking_hours": revoking_hours}
    run(cleanup(as_json=json, dry_run=dry_run, **limits))
