"""The dry run of orders: their steps run in a transaction that is rolled back.

Each order sees the orders before it in the file: a prefix that they get is not free any more. The transaction holds the
locks of all rows that the orders touch, so a dry run is for files of at most 1 000 orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text

from lastmile.contract import AnyOrder
from lastmile.contract.operations import LineEffect, order_type
from lastmile.db import Database, TenantConnection
from lastmile.errors import NonRetryableError
from lastmile.fields.phrases import format_time
from lastmile.services.line_matching import check_line
from lastmile.services.order_files.reader import NumberedOrder
from lastmile.services.step_rehearsals import REHEARSALS, Rehearsal, StepPlan
from lastmile.subscribers import orders
from lastmile.subscribers.tables import orders as order_table

__all__ = ["OrderPlan", "StepPlan", "dry_run"]

# The dry run acts as each order's tenant: the platform's role would see the rows of all tenants.
_ENTER_TENANT = text("SELECT set_config('lastmile.tenant', :tenant, true)")

_GOOD = (orders.OrderStatus.COMPLETED, orders.OrderStatus.DEGRADED)


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """The steps of an order, up to the step that would refuse the order."""

    numbered: NumberedOrder
    steps: list[StepPlan]

    @property
    def refused(self) -> bool:
        return self.steps[-1].action == "refuse"

    def as_json(self) -> dict[str, Any]:
        order = self.numbered.order
        return {
            "line": self.numbered.line,
            "tenant": order.tenant,
            "order_id": order.order_id,
            "subscriber_ref": order.subscriber_ref,
            "would": "be_refused" if self.refused else "be_carried_out",
            "steps": [{"step": s.step, "action": s.action, "detail": s.detail} for s in self.steps],
        }


async def dry_run(database: Database, numbered: Sequence[NumberedOrder]) -> list[OrderPlan]:
    """Return a plan for each order, in the order of the file. Writes nothing."""
    plans: dict[tuple[str, str], OrderPlan] = {}
    result = []
    async with database.tenant("") as connection, connection.begin_nested() as everything:
        for one in numbered:
            key = (one.order.tenant, one.order.order_id)
            if before := plans.get(key):
                result.append(_again(before, one))
            else:
                result.append(plans.setdefault(key, await _plan(connection, one)))
        await everything.rollback()
    return result


def _again(before: OrderPlan, numbered: NumberedOrder) -> OrderPlan:
    action = "refuse" if before.refused else "reuse"
    return OrderPlan(numbered, [StepPlan("open_order", action, f"the same order as on line {before.numbered.line}")])


async def _plan(connection: TenantConnection, numbered: NumberedOrder) -> OrderPlan:
    rehearsal = Rehearsal(connection, numbered.order)
    await connection.execute(_ENTER_TENANT, {"tenant": numbered.order.tenant})
    try:
        async with connection.begin_nested():
            await _rehearse(rehearsal, numbered.order)
    except NonRetryableError as why:
        # The savepoint undoes what the order did before, as its workflow would.
        rehearsal.note("refuse", str(why))
    return OrderPlan(numbered, rehearsal.plan)


class _OrderNotStartedError(NonRetryableError):
    """The order would not reach its first step."""


async def _rehearse(rehearsal: Rehearsal, order: AnyOrder) -> None:
    """Rehearse the order step by step. Raise `NonRetryableError` in the step that refuses the order."""
    if not await _open(rehearsal, order):
        return
    entry = order_type(order)
    for step in entry.steps:
        rehearsal.step = step.name
        await REHEARSALS[step.name](rehearsal, order)
    if entry.effect is LineEffect.CREATES:  # later lines of the file do not see what another order would end
        await orders.close_order(rehearsal.connection, order.order_id, orders.OrderStatus.COMPLETED, {})


async def _open(rehearsal: Rehearsal, order: AnyOrder) -> bool:
    """Return whether the order would take any step at all."""
    connection = rehearsal.connection
    known = (
        await connection.execute(select(order_table).where(order_table.c.subscriber_ref == order.subscriber_ref))
    ).all()
    opening = await orders.open_order(
        connection,
        order.tenant,
        order.order_id,
        order.operation,
        order.subscriber_ref,
        order.digest,
        "dry run",
    )
    same = next((row for row in known if row.order_id == order.order_id), None)
    if opening.result is not None and same is not None:
        ended = f"this order {same.status.replace('_', ' ')} on {format_time(same.finished_at)}"
        if same.status not in _GOOD:
            raise _OrderNotStartedError(f"{ended}, and an id belongs to one order: send it with a new order_id")
        outdated = f"; {opening.outdated}" if opening.outdated else ""
        rehearsal.note("reuse", f"{ended}: same result{outdated}")
        return False
    if same is not None:
        since = format_time(same.created_at)
        rehearsal.note("reuse", f"this order is running since {since}: its result would be awaited")
        return False
    if order.requested_line is not None:
        await check_line(connection, order.tenant, order.subscriber_ref, order.order_id, order.requested_line)
    if busy := next((row for row in known if row.finished_at is None), None):
        raise _OrderNotStartedError(
            f"{busy.operation} order {busy.order_id} of this subscriber is running since "
            f"{format_time(busy.created_at)}: wait for it"
        )
    return True
