"""`lastmile cancel`."""

from lastmile.cli.connections import find_tenant, load_settings, open_operator
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_result
from lastmile.client.orders import NotRunningError

__all__ = ["cancel"]


async def cancel(subscriber: str, tenant: str | None, as_json: bool) -> Exit:
    """Cancel the running order of a subscriber. Raises `NotRunningError`."""
    settings = load_settings()
    tenant = await find_tenant(settings, tenant)
    async with open_operator(settings) as operator:
        if not await operator.open_order(tenant, subscriber):
            raise NotRunningError(f"No order of subscriber {subscriber} is running: there is nothing to cancel.")
        await operator.orders.cancel(tenant, subscriber)
    print_result(
        f"Cancel requested. The order of {subscriber} undoes its steps; past the point of no return it continues to "
        f"its end. `lastmile status {subscriber}` shows the progress.",
        as_json,
        tenant=tenant,
        subscriber_ref=subscriber,
        cancel_requested=True,
    )
    return Exit.DONE
