"""The example orders, with the order ids for this run of the demo.

The examples keep their order ids: a second demo shows that the same order gives the same result. An order gets a new id
after its line was deprovisioned, and after it was rolled back.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lastmile.contract import DeprovisionSubscriber, Operation, ProvisionSubscriber
from lastmile.db import Database
from lastmile.errors import UnavailableError
from lastmile.services.order_files.reader import read_orders
from lastmile.services.overview import Overview, find_overview

__all__ = ["EXAMPLES", "Example", "deprovision_order", "example_orders"]

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """An order to send now, with the state of the order and its subscriber."""

    order: ProvisionSubscriber
    ended_at: datetime | None
    """When the order of this id ended; None if it has not ended."""
    quarantined: tuple[str, ...] = ()
    """The subscriber's prefixes in quarantine, from before its line was deprovisioned."""


async def example_orders(database: Database, *, in_netbox: bool) -> list[Example]:
    """Return the example orders to send now; `in_netbox`: also the orders for the pool in NetBox."""
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
    known = await _find(database, order)
    sent = [row for row in known.orders if row["operation"] == Operation.PROVISION]
    in_service = known.subscriber is not None and known.subscriber["archived_at"] is None
    if not sent:
        return Example(order, None)
    last = sent[-1]
    if in_service or last["finished_at"] is None:
        return Example(order.model_copy(update={"order_id": last["order_id"]}), last["finished_at"])
    again = order.model_copy(update={"order_id": f"{order.order_id}.{len(sent) + 1}"})
    return Example(again, None, tuple(one["prefix"] for one in known.quarantine))


async def deprovision_order(database: Database, order: ProvisionSubscriber) -> DeprovisionSubscriber:
    """Return the order that deprovisions the line: an interrupted order again, otherwise a new order."""
    known = await _find(database, order)
    sent = [row for row in known.orders if row["operation"] == Operation.DEPROVISION]
    number = len(sent) if sent and sent[-1]["finished_at"] is None else len(sent) + 1
    return DeprovisionSubscriber(
        tenant=order.tenant,
        order_id=f"D-{order.subscriber_ref}.{number}",
        subscriber_ref=order.subscriber_ref,
        reason="the demo deprovisions one line",
    )


async def _find(database: Database, order: ProvisionSubscriber) -> Overview:
    return await find_overview(database, order.tenant, order.subscriber_ref)
