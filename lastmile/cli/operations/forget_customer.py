"""`lastmile forget-customer`."""

from lastmile.cli.connections import choose_tenant, connect_temporal, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_result
from lastmile.client.personal_data import forget_customer as forget
from lastmile.fields.phrases import count_of

__all__ = ["forget_customer"]


async def forget_customer(customer: str, tenant: str | None, *, as_json: bool) -> Exit:
    """Delete the personal data of a former customer."""
    settings = load_settings()
    async with open_database(settings) as database:
        chosen = await choose_tenant(database, tenant)
        operator = await connect_temporal(settings)
        done = await forget(database, operator.client, chosen, customer, actor=current_user())
    runs = count_of(done.runs, "ended run", "ended runs")
    print_result(
        f"The name, e-mail and phone of customer {customer} are deleted. Temporal deletes the histories of {runs}. "
        "Backups keep what they contain until they are deleted.",
        as_json,
        customer=customer,
        subscribers=done.subscribers,
        runs=done.runs,
    )
    return Exit.DONE
