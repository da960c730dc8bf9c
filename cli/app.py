"""The commands and their options. Everything else is imported when a command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.exits import EPILOG, run
from cli.inventory_app import nas, tenant
from cli.netbox_app import netbox
from cli.pool_app import pool
from cli.schedule_app import schedule
from cli.scheduled_app import scheduled

__all__ = ["app"]

app = typer.Typer(
    help="Provisions broadband subscribers: orders become working lines, and are taken down again.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(tenant, name="tenant")
app.add_typer(pool, name="pool")
app.add_typer(nas, name="nas")
app.add_typer(netbox, name="netbox")
app.add_typer(scheduled, name="scheduled")
app.add_typer(schedule, name="schedule")

Subscriber = Annotated[str, typer.Argument(help="The subscriber's reference, as in its order.")]
Tenant = Annotated[str | None, typer.Option(help="May be left out where there is one tenant only.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]


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
    """Run the embedded stack until Ctrl-C: PostgreSQL, Temporal, FreeRADIUS, a NAS, a worker."""
    from cli.stack import up

    run(up())


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running until Ctrl-C, to look around.")] = False,
) -> None:
    """Watch orders become working lines, and one of them being taken down again, on a stack of real servers."""
    from cli.stack import demo

    run(demo(keep))


@app.command()
def migrate(json: Json = False) -> None:
    """Bring the database to the newest schema, as the owner of its tables (DATABASE_OWNER_URL or DATABASE_URL)."""
    from cli.migrate import migrate

    run(migrate(as_json=json))


@app.command(epilog=EPILOG)
def provision(
    file: Annotated[str, typer.Argument(help="Orders, as JSON Lines or CSV; - is standard input.")],
    check: Annotated[
        bool, typer.Option("--check", help="Say what is wrong with the lines of the file; needs no server.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what each order would create, reuse or refuse. Few orders only."),
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option(help="Where rejected orders go. Without it, beside FILE: orders.rejects.jsonl.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the orders of a file of any size to their end.

    What is no order, is refused or cannot be done goes to a file of rejects, with the reason, to be fixed and sent
    again. The same file again goes on where it was left: an order that has ended is not run again.
    --check and --dry-run start nothing.
    """
    if check:
        from cli.provision import check as check_file

        run(check_file(file, as_json=json))
    if dry_run:
        from cli.orders import plan

        run(plan(file, json))
    from cli.provision import provision

    run(provision(file, rejects=rejects, as_json=json))


@app.command(epilog=EPILOG)
def export(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant; without it, all.")] = None,
    format: Annotated[
        Literal["jsonl", "csv"] | None, typer.Option(help="Without it, as the name of the output ends, or jsonl.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Without it, standard output.")] = None,
) -> None:
    """The estate as orders: those that would provision every live subscriber as it is."""
    from cli.export import export

    run(export(tenant=tenant, form=format, output=output))


@app.command(epilog=EPILOG)
def deprovision(
    subscriber: Subscriber,
    reason: Annotated[str, typer.Option(help="Why, for the history: no personal data.")],
    tenant: Tenant = None,
    order_id: Annotated[
        str | None, typer.Option(help="Your id for this order; the same one again gives the same result.")
    ] = None,
    not_before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Start then, not now. With its time zone: 2030-05-03T14:00:00+02:00."),
    ] = None,
    json: Json = False,
) -> None:
    """Terminate a subscriber's service: end the session, release the addresses, close the record."""
    from cli.orders import deprovision

    run(deprovision(subscriber, tenant=tenant, reason=reason, order_id=order_id, not_before=not_before, as_json=json))


@app.command()
def cancel(subscriber: Subscriber, tenant: Tenant = None, json: Json = False) -> None:
    """Ask the running order of a subscriber to stop, and to take back what it did."""
    from cli.orders import cancel

    run(cancel(subscriber, tenant, json))


Why = Annotated[str, typer.Option(help="For the history: no personal data.")]
By = Annotated[str | None, typer.Option(help="Who decides; without it, your login.")]
Step = Annotated[str | None, typer.Option(help="The parked step that you mean; without it, whichever is parked.")]


@app.command(epilog=EPILOG)
def attention(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's; without it, all.")] = None,
    step: Annotated[str | None, typer.Option(help="Only what is parked at this step.")] = None,
    decide: Annotated[
        Literal["retry", "skip", "abandon"] | None,
        typer.Option(help="Release all that is listed; skip and abandon need --step."),
    ] = None,
    why: Annotated[str | None, typer.Option(help="With --decide, for the history: no personal data.")] = None,
    by: By = None,
    json: Json = False,
) -> None:
    """What waits for a person, oldest first; with --decide, release it."""
    from cli.attention import attention

    run(attention(tenant=tenant, step=step, decide=decide, why=why, by=by, as_json=json))


@app.command()
def retry(
    subscriber: Subscriber, why: Why, tenant: Tenant = None, by: By = None, step: Step = None, json: Json = False
) -> None:
    """Release a parked order: try its step again, once the cause is fixed."""
    from cli.steer import steer

    run(steer("retry_step", subscriber, tenant=tenant, why=why, by=by, step=step, as_json=json))


@app.command()
def skip(
    subscriber: Subscriber, why: Why, tenant: Tenant = None, by: By = None, step: Step = None, json: Json = False
) -> None:
    """Release a parked order: go on without its step, which was done by hand or need not be."""
    from cli.steer import steer

    run(steer("skip_step", subscriber, tenant=tenant, why=why, by=by, step=step, as_json=json))


@app.command()
def abandon(
    subscriber: Subscriber, why: Why, tenant: Tenant = None, by: By = None, step: Step = None, json: Json = False
) -> None:
    """Release a parked order: end it, and leave everything as it is."""
    from cli.steer import steer

    run(steer("abandon", subscriber, tenant=tenant, why=why, by=by, step=step, as_json=json))


@app.command()
def status(
    subscriber: Subscriber,
    tenant: Tenant = None,
    show_password: Annotated[bool, typer.Option("--show-password", help="Print the RADIUS password too.")] = False,
    json: Json = False,
) -> None:
    """What a subscriber has, what happened to it, and where its running order stands."""
    from cli.status import status

    run(status(subscriber, tenant=tenant, password=show_password, as_json=json))


@app.command(epilog=EPILOG)
def audit(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant; without it, all.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what is safe to repair, and say what was.")] = False,
    json: Json = False,
) -> None:
    """Check every promise against the records: no address given twice, none lost, RADIUS in step, orders whole."""
    from cli.audit import audit

    run(audit(tenant=tenant, repairing=repair, as_json=json))


@app.command(epilog=EPILOG)
def acknowledge(
    invariant: Annotated[str, typer.Argument(help="The invariant, as `lastmile audit` names it.")],
    subject: Annotated[str, typer.Argument(help="The subject, as `lastmile audit` names it.")],
    why: Why,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's finding.")] = None,
    by: By = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the acknowledgement back.")] = False,
    json: Json = False,
) -> None:
    """Acknowledge a finding of the audit: it raises no alert any more, and `lastmile audit` shows it apart.

    An acknowledgement is about one finding in its present words. A finding that changes or comes back counts again.
    """
    from cli.acknowledge import acknowledge

    run(acknowledge(invariant, subject, tenant=tenant, why=why, by=by, withdrawn=withdraw, as_json=json))


@app.command(epilog=EPILOG)
def history(
    about: Annotated[
        str, typer.Argument(metavar="SUBSCRIBER|PREFIX", help="A subscriber's reference, or a prefix or address.")
    ],
    tenant: Annotated[
        str | None, typer.Option(help="Of a subscriber: may be left out where there is one tenant only.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Who had the prefix then: ISO 8601, UTC without an offset.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Nothing that was over before.")] = None,
    json: Json = False,
) -> None:
    """Who did what to a subscriber's records; or who had a prefix, and when."""
    from cli.history import history

    run(history(about, tenant=tenant, at=at, since=since, as_json=json))


@app.command(epilog=EPILOG)
def forget(json: Json = False) -> None:
    """Delete what the trail and the history of prefixes have kept for longer than LASTMILE_AUDIT_DAYS."""
    from cli.forget import forget

    run(forget(as_json=json))


@app.command(name="codec-server", epilog=EPILOG)
def codec_server() -> None:
    """Show encrypted payloads to those who may see them, in the Temporal UI and command, until Ctrl-C."""
    from cli.codec_server import codec_server

    run(codec_server())


@app.command(epilog=EPILOG)
def cleanup(
    revoked_days: Annotated[float, typer.Option(help="Delete what ended longer ago.")] = 90,
    allocated_hours: Annotated[float, typer.Option(help="Report what is allocated and unused for longer.")] = 24,
    revoking_hours: Annotated[float, typer.Option(help="Complete revocations that began longer ago.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be done, and do nothing.")] = False,
    json: Json = False,
) -> None:
    """What the schedule `cleanup` does every night, now: revocations, leaks, what ended long ago. Needs a worker."""
    from cli.cleanup import cleanup

    limits = {"revoked_days": revoked_days, "allocated_hours": allocated_hours, "revoking_hours": revoking_hours}
    run(cleanup(as_json=json, dry_run=dry_run, **limits))
