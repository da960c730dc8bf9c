"""`lastmile provision`, `deprovision` and `cancel`."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.dry_run import OrderPlan, dry_run
from cli.exits import BadInput, Exit
from cli.mistakes import mistakes
from cli.order_file import read_orders
from cli.output import complain, console, mark, messages, print_json, table, tell
from cli.runs import Ended, Runs
from cli.services import Temporal, load_settings, open_database, pick_tenant
from settings import Settings
from workflows.client import NotRunning
from workflows.contract import AnyOrder, Created, DeprovisionSubscriber

__all__ = ["addresses", "cancel", "deprovision", "only_tenant", "plan", "provision", "results"]

_ADDRESSES = ("ipv6_prefix", "ipv6_framed_prefix", "ipv6_address", "ipv4_address")


async def provision(source: str, as_json: bool) -> Exit:
    """Run the orders of a file."""
    orders = [numbered.order for numbered in read_orders(source)]
    return await _run(load_settings(), orders, as_json)


async def plan(source: str, as_json: bool) -> Exit:
    """Say what the orders of a file would do, and start nothing."""
    orders = read_orders(source)
    async with open_database(load_settings()) as database:
        plans = await dry_run(database, orders)
    if as_json:
        for one in plans:
            print_json(one.as_json())
    else:
        console.print(_plans(plans))
        refused = sum(one.refused for one in plans)
        console.print(f"Nothing was started. {len(plans) - refused} of {len(plans)} orders would be carried out.")
    return Exit.FAILED if any(one.refused for one in plans) else Exit.DONE


async def deprovision(subscriber: str, *, tenant: str | None, reason: str, order_id: str | None, as_json: bool) -> Exit:
    """Take one subscriber's line down."""
    settings = load_settings()
    tenant = tenant or await only_tenant(settings)
    try:
        order = DeprovisionSubscriber(
            tenant=tenant,
            order_id=order_id or f"deprovision-{secrets.token_hex(6)}",
            subscriber_ref=subscriber,
            reason=reason,
        )
    except ValidationError as failure:
        names = {"tenant": "--tenant", "order_id": "--order-id", "subscriber_ref": "SUBSCRIBER", "reason": "--reason"}
        raise BadInput("This cannot be ordered:", mistakes(failure, DeprovisionSubscriber, names)) from None
    if not as_json:
        console.print(f"Order {order.order_id}", markup=False)
    return await _run(settings, [order], as_json)


async def cancel(subscriber: str, tenant: str | None, as_json: bool) -> Exit:
    """Ask the subscriber's running order to stop and roll back."""
    settings = load_settings()
    tenant = tenant or await only_tenant(settings)
    temporal = await Temporal.connect(settings)
    if not await temporal.open_run(tenant, subscriber):
        raise NotRunning(f"No order of subscriber {subscriber} is running: there is nothing to cancel.")
    await temporal.orders.cancel(tenant, subscriber)
    tell(
        f"The running order of {subscriber} was asked to stop and take back what it did; past the point of no "
        f"return it goes on to its end. `lastmile status {subscriber}` shows how that goes.",
        as_json,
        tenant=tenant,
        subscriber_ref=subscriber,
        cancel_requested=True,
    )
    return Exit.DONE


async def only_tenant(settings: Settings) -> str:
    """The tenant that is meant where none is named. Raises `BadInput` where there are several."""
    async with open_database(settings) as database:
        return await pick_tenant(database, None)


async def _run(settings: Settings, orders: Sequence[AnyOrder], as_json: bool) -> Exit:
    temporal = await Temporal.connect(settings)
    ends: list[Ended] = []
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=messages, transient=True, disable=not messages.is_terminal,
    )  # fmt: skip
    shown = bar.add_task("orders", total=len(orders))

    def tell(end: Ended) -> None:
        ends.append(end)
        bar.advance(shown)
        if as_json:
            print_json(end.as_json())

    runs = Runs(temporal, tell, complain)
    try:
        with bar:
            await runs.run(orders)
    except asyncio.CancelledError:
        _interrupted(runs.started, len(orders) - len(ends) - len(runs.started))
        raise
    finally:
        if ends and not as_json:
            console.print(results(_in_order(orders, ends)))
    return max((end.exit for end in ends), default=Exit.DONE)


def _in_order(orders: Sequence[AnyOrder], ends: Sequence[Ended]) -> list[Ended]:
    position = {id(order): index for index, order in enumerate(orders)}
    return sorted(ends, key=lambda end: position[id(end.order)])


def _interrupted(started: Sequence[AnyOrder], waiting: int) -> None:
    names = ", ".join(order.subscriber_ref for order in started[:5]) + (", …" if len(started) > 5 else "")
    going_on = f"{len(started)} started and go on in Temporal ({names}): `lastmile status SUBSCRIBER` shows them"
    complain(
        f"Interrupted. Of the orders that had not ended, {going_on if started else 'none was started'}; "
        f"{waiting} were not started. The same orders again give the same results."
    )


def addresses(created: Created) -> str:
    """What the line has, or gave back."""
    held = (getattr(created, name) for name in _ADDRESSES)
    return "\n".join(address for address in held if address)


def results(ends: Sequence[Ended]) -> Table:
    """The orders, each with its outcome, addresses, and what is to be said about it."""
    return table("", ("order", "subscriber", "outcome", "addresses", ""), [_result(end) for end in ends])


def _result(end: Ended) -> tuple[Any, ...]:
    created = end.result.created if end.result else Created()
    return end.order.order_id, end.order.subscriber_ref, mark(end.status), addresses(created), end.reason


def _plans(plans: Sequence[OrderPlan]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for one in plans:
        for index, step in enumerate(one.steps):
            head = (one.numbered.line, one.numbered.order.order_id) if index == 0 else ("", "")
            rows.append((*head, step.step, mark(step.action), step.detail))
        rows.append(("",) * 5)
    return table("", ("line", "order", "step", "would", ""), rows[:-1])
