"""Orders: what was asked for, whether it may still act, and how it ended.

An order's row is its memory, long after its run has left Temporal, and its fence: a step acts only while its
order is `running`, an undo only while it is being rolled back. The step's transaction holds the row, so an
attempt that the workflow gave up on cannot commit after the undo has looked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from lastmile.contract.operations import LineEffect, operations_that
from lastmile.db import PlatformConnection, TenantConnection
from lastmile.subscribers.errors import OrderConflictError, OrderFencedError, UnknownTenantError
from lastmile.subscribers.tables import orders

__all__ = [
    "Closed",
    "EndedOrder",
    "OrderStatus",
    "close_order",
    "hold_forward",
    "hold_undo",
    "live_line",
    "open_order",
    "recorded",
]


class OrderStatus(StrEnum):
    RUNNING = "running"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    DEGRADED = "degraded"
    ROLLED_BACK = "rolled_back"
    PARTLY_ROLLED_BACK = "partly_rolled_back"
    """An operator skipped an undo; the audit names what is left until an order has put it right."""
    ABANDONED = "abandoned"
    """An operator gave up on it; the audit keeps pointing at what it left."""
    SUPERSEDED = "superseded"
    """Its run was terminated, and a later order for the subscriber took over."""


@dataclass(frozen=True, slots=True)
class Opening:
    """An order as it was found at its beginning."""

    result: dict[str, Any] | None = None
    outdated: str = ""
    """Which later order has changed the line since the order ended."""
    new: bool = False
    """The order's row was made by this call."""
    taken_over: bool = False
    """A run that is gone had begun it, or it has superseded an order of the same operation: now, or at an earlier
    attempt to open it."""
    superseded: tuple[str, ...] = ()
    """Unfinished orders of the same operation, whose leftovers are this order's from now on."""


_UNFINISHED = (OrderStatus.RUNNING, OrderStatus.ROLLING_BACK)


async def open_order(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    operation: str,
    subscriber_ref: str,
    digest: str,
    run_id: str,
    requested_by: str = "",
) -> Opening:
    """Begin the order, or take it up where a terminated run left it; `run_id` is the run that asks.

    The caller's run holds the subscriber's workflow id, so every other unfinished order of the subscriber
    belongs to a run that is gone: those are superseded. Raises `OrderConflictError` and `UnknownTenantError`.
    """
    values = {
        "tenant_id": tenant,
        "order_id": order_id,
        "operation": operation,
        "subscriber_ref": subscriber_ref,
        "digest": digest,
        "status": OrderStatus.RUNNING,
        "run_id": run_id,
        "requested_by": requested_by or None,
    }
    try:
        new = (await connection.execute(insert(orders).values(values).on_conflict_do_nothing())).rowcount > 0
    except IntegrityError as failure:
        raise UnknownTenantError(f"tenant {tenant} does not exist: add it with `lastmile tenant add`") from failure
    found = (await connection.execute(select(orders).where(orders.c.order_id == order_id).with_for_update())).one()
    if found.digest != digest:
        raise OrderConflictError(
            f"order id {order_id} was used on {found.created_at:%Y-%m-%d %H:%M %Z} for another "
            f"{found.operation} (subscriber {found.subscriber_ref}): an id belongs to one order for ever"
        )
    if found.status in (OrderStatus.ROLLING_BACK, OrderStatus.SUPERSEDED):
        raise OrderConflictError(
            f"order {order_id} was cut off while it was {found.status}: "
            "what it left is taken over by the subscriber's next order, so send it with a new id"
        )
    if found.status != OrderStatus.RUNNING:
        later = await connection.execute(_LATER_THAN, {"order_id": order_id})
        return Opening(result=dict(found.result), outdated=_outdated(later.one_or_none()))
    superseded = (
        await connection.execute(
            update(orders)
            .where(
                orders.c.subscriber_ref == subscriber_ref,
                orders.c.order_id != order_id,
                orders.c.status.in_(_UNFINISHED),
            )
            .values(status=OrderStatus.SUPERSEDED, finished_at=func.now())
            .returning(orders.c.order_id, orders.c.operation)
        )
    ).all()
    same = tuple(row.order_id for row in superseded if row.operation == operation)
    taken_over = found.taken_over or found.run_id != run_id or bool(same)
    if taken_over:
        await connection.execute(
            update(orders).where(orders.c.order_id == order_id).values(run_id=run_id, taken_over=True)
        )
    return Opening(new=new, taken_over=taken_over, superseded=same)


_LAST_BEFORE = text(
    """
    SELECT operation, status, result FROM orders
    WHERE subscriber_ref = :subscriber_ref AND order_id <> :order_id
      AND operation = ANY(:operations) AND status NOT IN ('rolled_back', 'partly_rolled_back')
    ORDER BY created_at DESC, order_id LIMIT 1
    """
)
_CREATING = operations_that(LineEffect.CREATES)
_CREATING_OR_ENDING = operations_that(LineEffect.CREATES, LineEffect.ENDS)


async def live_line(connection: TenantConnection, subscriber_ref: str, order_id: str) -> dict[str, Any] | None:
    """Return the result of the order that created the subscriber's line.

    None where no line is in service: there was none, an order ended it, or an order was cut off halfway. The order
    `order_id` does not count.
    """
    row = (
        await connection.execute(
            _LAST_BEFORE,
            {"subscriber_ref": subscriber_ref, "order_id": order_id, "operations": list(_CREATING_OR_ENDING)},
        )
    ).one_or_none()
    if row is None or row.operation not in _CREATING or row.status not in (OrderStatus.COMPLETED, OrderStatus.DEGRADED):
        return None
    return dict(row.result or {})


@dataclass(frozen=True, slots=True)
class Closed:
    """An order that has just ended."""

    operation: str
    seconds: float
    """Since it was begun."""


async def close_order(
    connection: TenantConnection, order_id: str, status: OrderStatus, result: dict[str, Any]
) -> Closed | None:
    """Record how the order ended. The first recorded end stands: None where it had ended before."""
    ended = await connection.execute(
        update(orders)
        .where(orders.c.order_id == order_id, orders.c.status.in_(_UNFINISHED))
        .values(status=status, result=result, finished_at=func.now())
        .returning(orders.c.operation, orders.c.created_at, orders.c.finished_at)
    )
    if (row := ended.one_or_none()) is None:
        return None
    return Closed(row.operation, (row.finished_at - row.created_at).total_seconds())


@dataclass(frozen=True, slots=True)
class EndedOrder:
    """An order that has ended."""

    digest: str
    """Of its content: an order with another is another order."""
    result: dict[str, Any]
    outdated: str
    """Which later order has changed the line since the order ended; empty where none has."""


# The newest order of the other operation that came after an order `o` and was not taken back.
_LATER = """
    SELECT later.order_id AS later_order_id, later.operation AS later_operation, later.status AS later_status,
           later.created_at AS later_at
    FROM orders later
    WHERE later.tenant_id = o.tenant_id AND later.subscriber_ref = o.subscriber_ref
      AND later.created_at > o.created_at AND later.operation <> o.operation
      AND later.status NOT IN ('rolled_back', 'partly_rolled_back') AND o.status <> 'rolled_back'
    ORDER BY later.created_at DESC LIMIT 1
"""
_LATER_THAN = text(f"SELECT later.* FROM orders o CROSS JOIN LATERAL ({_LATER}) later WHERE o.order_id = :order_id")

_RECORDED = text(
    f"""
    SELECT o.tenant_id, o.order_id, o.digest, o.result, later.*
    FROM unnest(CAST(:tenants AS text[]), CAST(:order_ids AS text[])) AS asked (tenant_id, order_id)
    JOIN orders o USING (tenant_id, order_id)
    LEFT JOIN LATERAL ({_LATER}) later ON true
    WHERE o.status IN ('completed', 'degraded', 'rolled_back', 'partly_rolled_back', 'abandoned')
    """
)


def _outdated(later: Row[Any] | None) -> str:
    """The words for an order that is followed by this one."""
    if later is None or later.later_order_id is None:
        return ""
    return (
        f"this result is from before {later.later_operation} order {later.later_order_id} "
        f"({later.later_status.replace('_', ' ')}, begun on {later.later_at:%Y-%m-%d %H:%M %Z})"
    )


async def recorded(
    connection: PlatformConnection, asked: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], EndedOrder]:
    """Of these orders, by tenant and id, the ones whose end `open_order` would give back."""
    keys = {"tenants": [tenant for tenant, _ in asked], "order_ids": [order_id for _, order_id in asked]}
    rows = await connection.execute(_RECORDED, keys)
    return {(row.tenant_id, row.order_id): EndedOrder(row.digest, row.result, _outdated(row)) for row in rows}


_HOLD_FORWARD = text("SELECT 1 FROM orders WHERE order_id = :order_id AND status = 'running' FOR SHARE")
_HOLD_UNDO = text(
    """
    UPDATE orders SET status = 'rolling_back'
    WHERE order_id = :order_id AND status IN ('running', 'rolling_back') RETURNING 1
    """
)


async def hold_forward(connection: TenantConnection, order_id: str) -> None:
    """Let a step act until its transaction ends. Raises `OrderFencedError` where the order has moved on."""
    if await connection.scalar(_HOLD_FORWARD, {"order_id": order_id}) is None:
        raise OrderFencedError(f"order {order_id} is no longer running: this attempt came too late and did nothing")


async def hold_undo(connection: TenantConnection, order_id: str) -> None:
    """Let an undo act, and no step of the order any more. Raises `OrderFencedError` where the order has ended."""
    if await connection.scalar(_HOLD_UNDO, {"order_id": order_id}) is None:
        raise OrderFencedError(f"order {order_id} has ended: there is nothing to undo")
