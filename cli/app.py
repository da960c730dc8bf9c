"""The commands and their options. Everything else is imported when a command runs."""

from typing import Annotated

import typer

from cli.exits import EPILOG, run
from cli.inventory_app import nas, pool, tenant

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

Subscriber = Annotated[str, typer.Argument(help="The subscriber's reference, as in its order.")]
Tenant = Annotated[str | None, typer.Option(help="May be left out where there is one tenant only.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]


@app.command()
def up() -> None:
    """Run the embedded stack until Ctrl-C: PostgreSQL, Temporal, FreeRADIUS, a NAS, a worker."""
    from cli.demo import run_stack

    run(run_stack())


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running until Ctrl-C, to look around.")] = False,
) -> None:
    """Watch orders become working lines, and one of them being taken down again, on a stack of real servers."""
    from cli.demo import demo

    run(demo(keep))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema, as the owner of its tables (DATABASE_OWNER_URL or DATABASE_URL)."""
    from cli.migrate import migrate

    run(migrate())


@app.command(epilog=EPILOG)
def provision(
    file: Annotated[str, typer.Argument(help="Orders, one JSON object a line; - is standard input.")],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what each order would create, reuse or refuse, and start nothing."),
    ] = False,
    json: Json = False,
) -> None:
    """Run orders to their end. Every line is checked first, and nothing starts where one is wrong."""
    from cli.orders import plan, provision

    run((plan if dry_run else provision)(file, json))


@app.command(epilog=EPILOG)
def deprovision(
    subscriber: Subscriber,
    reason: Annotated[str, typer.Option(help="Why, for the history: no personal data.")],
    tenant: Tenant = None,
    order_id: Annotated[
        str | None, typer.Option(help="Your id for this order; the same one again gives the same result.")
    ] = None,
    json: Json = False,
) -> None:
    """Take a line down: end its session, give its addresses back, close its record."""
    from cli.orders import deprovision

    run(deprovision(subscriber, tenant=tenant, reason=reason, order_id=order_id, as_json=json))


@app.command()
def cancel(subscriber: Subscriber, tenant: Tenant = None) -> None:
    """Ask the running order of a subscriber to stop, and to take back what it did."""
    from cli.orders import cancel

    run(cancel(subscriber, tenant))


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
