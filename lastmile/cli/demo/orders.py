"""The example orders, and which ids to send them with this time.

The examples keep their order ids, so that a second demo shows that the same order gives the same result. What
an id has been used up for gets the next one: a line that was deprovisioned, or an order that was rolled back.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lastmile.contract import DeprovisionSubscriber, Operation, ProvisionSubscriber
from lastmile.db import Database
from lastmile.errors import UnavailableError
from lastmile.services.order_files.reader import read_orders
from lastmile.services.overview import Overview, find_overview

__all__ = ["EXAMPLES", "Example", "examples", "takedown"]

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """An order to send now, and what is known of it and its subscriber already."""

    order: ProvisionSubscriber
    ended_at: datetime | None
    """When this very order ended; None where it has not."""
    rested: tuple[str, ...] = ()
    """Prefixes that the subscriber had before its line was deprovisioned, and that are not assigned again."""


async def examples(database: Database, *, in_netbox: bool) -> list[Example]:
    """The example orders, as they are to be sent now; `in_netbox`: also those that want a pool in NetBox."""
    files = [EXAMPLES / "orders.jsonl", *([EXAMPLES / "netbox.jsonl"] if in_netbox else [])]
    for file in files:
        if not file.exists():
            raise UnavailableError(
                f"The example orders are not at {file}: run the demo from a clone of the repository."
            )
    return [
        await _example(database, numbered.order)
        for file in files
        for numbered in read_orders(str(file))
        if isinstance(numbered.order, ProvisionSubscriber)
    ]


async def _example(database: Database, order: ProvisionSubscriber) -> Example:
    known = await _look(database, order)
    sent = [row for row in known.orders if row["operation"] == Operation.PROVISION]
    is_there = known.subscriber is not None and known.subscriber["archived_at"] is None
    if not sent:
        return Example(order, None)
    last = sent[-1]
    if is_there or last["finished_at"] is None:
        return Example(order.model_copy(update={"order_id": last["order_id"]}), last["finished_at"])
    again = order.model_copy(update={"order_id": f"{order.order_id}.{len(sent) + 1}"})
    return Example(again, None, tuple(resting["prefix"] for resting in known.quarantine))


async def takedown(database: Database, order: ProvisionSubscriber) -> DeprovisionSubscriber:
    """The order that takes this line down: the one that was cut off, where there is one."""
    known = await _look(database, order)
    sent = [row for row in known.orders if row["operation"] == Operation.DEPROVISION]
    number = len(sent) if sent and sent[-1]["finished_at"] is None else len(sent) + 1
    return DeprovisionSubscriber(
        tenant=order.tenant,
        order_id=f"D-{order.subscriber_ref}.{number}",
        subscriber_ref=order.subscriber_ref,
        reason="the demo takes one line down again",
    )


async def _look(database: Database, order: ProvisionSubscriber) -> Overview:
    return await find_overview(database, order.tenant, order.subscriber_ref)
