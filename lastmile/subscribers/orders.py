"""The records of orders: content, status and result.

The row of an order outlives its run in Temporal. The row is also a fence: a step acts only while the order is
`running`, a compensation only while the order is being rolled back. The transaction of a step locks the row. So an
attempt that the workflow has given up cannot commit after the compensation has read the state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import DateTime, Row, bindparam, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from lastmile.contract.operations import OPERATIONS, LineEffect
from lastmile.contract.orders import Operation, Urgency
from lastmile.db import Fence, PlatformConnection, TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.subscribers.errors import OrderConflictError, OrderFencedError, UnknownTenantError
from lastmile.subscribers.tables import accepted_orders, orders

__all__ = [
    "CANCELLING_FENCE",
    "CLOSING_FENCE",
    "COMPENSATION_FENCE",
    "OPENING_FENCE",
    "STEP_FENCE",
    "ClosedOrder",
    "EndedOrder",
    "LineOrder",
    "OrderStatus",
    "RecordedOrder",
    "close_order",
    "has_ended",
    "id_is_used",
    "lock_order",
    "no_tenant",
    "open_order",
    "read_ended_orders",
    "read_line_order",
]


class OrderStatus(StrEnum):
    """The status of an order."""

    RUNNING = "running"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    DEGRADED = "degraded"
    ROLLED_BACK = "rolled_back"
    PARTLY_ROLLED_BACK = "partly_rolled_back"
    """An operator skipped a compensation. The audit reports what the order left until a later order completes."""
    ABANDONED = "abandoned"
    """An operator ended the order as it stood. The audit reports what the order left until a later order completes."""
    SUPERSEDED = "superseded"
    """The order's run was terminated, and a later order of the subscriber took over."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The state of an order when its run opens it."""

    result: dict[str, Any] | None = None
    """The result, if the order has ended."""
    outdated: str = ""
    """A text about the later order that has changed the line since this order ended; empty if there is none."""
    new: bool = False
    """Whether this call inserted the row."""
    taken_over: bool = False
    """Whether an earlier run had begun this order, or this order has superseded an order of the same operation."""
    superseded: tuple[str, ...] = ()
    """The unfinished orders of the same operation whose records this order takes over."""


_LATER_RUN = DirectStatement(
    """
    SELECT EXISTS (SELECT FROM orders WHERE subscriber_ref = :subscriber_ref AND run_id <> :run_id
                   AND run_started_at > :run_started_at)
    """
)
_COLUMNS = (
    *("tenant_id", "order_id", "operation", "effect", "subscriber_ref", "digest", "status", "run_id"),
    *("requested_by", "adopts", "urgency", "customer_ref"),
)
_ACCEPTED = accepted_orders.c.order_id == bindparam("order_id")
_SAME_CONTENT = accepted_orders.c.digest == bindparam("digest")
_CANCELLED = accepted_orders.c.state == "cancelled"
# One statement, since every order takes it: an accepted order moves from accepted_orders to orders. Where another order
# was accepted with this id, or the order was cancelled, that row keeps the id.
_CREATE = DirectStatement(
    insert(orders)
    .from_select(
        [*_COLUMNS, "run_started_at"],
        select(
            *(bindparam(column, type_=orders.c[column].type) for column in _COLUMNS),
            func.coalesce(bindparam("run_started_at", type_=DateTime(timezone=True)), func.now()),
        ).where(~exists().where(_ACCEPTED, or_(~_SAME_CONTENT, _CANCELLED))),
    )
    .add_cte(delete(accepted_orders).where(_ACCEPTED, _SAME_CONTENT, ~_CANCELLED).cte("moved"))
    .on_conflict_do_nothing()
    .returning(orders)
)
_LOCK = DirectStatement(select(orders).where(orders.c.order_id == bindparam("order_id")).with_for_update())
_SUPERSEDE_OTHERS = DirectStatement(
    """
    UPDATE orders SET status = 'superseded', finished_at = now()
    WHERE subscriber_ref = :subscriber_ref AND order_id <> :order_id AND lastmile_order_unfinished(status)
    RETURNING order_id, operation
    """
)
_READ_LOCKED = DirectStatement(
    select(orders.c.status, orders.c.result)
    .where(orders.c.order_id == bindparam("order_id"))
    .with_for_update(key_share=True)
)
_CLOSE = DirectStatement(
    update(orders)
    .where(orders.c.order_id == bindparam("order_id"), func.lastmile_order_unfinished(orders.c.status))
    .values(status=bindparam("status"), result=bindparam("result"), finished_at=func.clock_timestamp())
    .returning(orders.c.operation, orders.c.effect, orders.c.created_at, orders.c.finished_at)
)


async def open_order(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    operation: str,
    subscriber_ref: str,
    digest: str,
    run_id: str,
    requested_by: str = "",
    run_started_at: datetime | None = None,
    *,
    adopts: bool = False,
    urgency: Urgency = Urgency.NORMAL,
    customer_ref: str | None = None,
) -> Opening:
    """Begin the order, or resume it after its run was terminated; `run_id` is the current run.

    The current run has the subscriber's workflow id. So every other unfinished order of the subscriber belongs to a
    terminated run, and becomes `superseded`.

    Raises:
        OrderConflictError: the id was used with other content, or the order was terminated during its rollback.
        OrderFencedError: a later run of the subscriber has opened an order, so this run was terminated.
        UnknownTenantError: the tenant does not exist.
    """
    run = {"subscriber_ref": subscriber_ref, "run_id": run_id, "run_started_at": run_started_at}
    if run_started_at is not None and await _LATER_RUN.scalar(connection, run):
        raise OrderFencedError(f"The run of order {order_id} was terminated: this late attempt changed nothing.")
    values = {
        "tenant_id": tenant,
        "order_id": order_id,
        "operation": operation,
        "effect": OPERATIONS[Operation(operation)].effect,
        "digest": digest,
        "status": OrderStatus.RUNNING,
        "requested_by": requested_by or None,
        "adopts": adopts,
        "urgency": urgency,
        "customer_ref": customer_ref,
        **run,
    }
    try:
        created = await _CREATE.one_or_none(connection, values)
    except IntegrityError as failure:
        raise no_tenant(tenant) from failure
    found = created or await _LOCK.one_or_none(connection, {"order_id": order_id})
    if found is None:
        raise OrderConflictError(await _accepted_otherwise(connection, order_id))
    if found.digest != digest:
        raise OrderConflictError(id_is_used(order_id, found.created_at, found.operation, found.subscriber_ref))
    if found.status in (OrderStatus.ROLLING_BACK, OrderStatus.SUPERSEDED):
        raise OrderConflictError(
            f"Order {order_id} was terminated while it was {found.status}. Send it with a new id: the subscriber's "
            "next order takes over the records that it left."
        )
    if found.status != OrderStatus.RUNNING:
        later = await connection.execute(_LATER_THAN, {"order_id": order_id})
        return Opening(result=dict(found.result), outdated=_outdated(later.one_or_none()))
    superseded = await _SUPERSEDE_OTHERS.all(connection, {"subscriber_ref": subscriber_ref, "order_id": order_id})
    same = tuple(row.order_id for row in superseded if row.operation == operation)
    taken_over = found.taken_over or found.run_id != run_id or bool(same)
    if taken_over:
        started = {} if run_started_at is None else {"run_started_at": run_started_at}
        await connection.execute(
            update(orders).where(orders.c.order_id == order_id).values(run_id=run_id, taken_over=True, **started)
        )
    return Opening(new=created is not None, taken_over=taken_over, superseded=same)


async def _accepted_otherwise(connection: TenantConnection, order_id: str) -> str:
    """Say why the order of this id cannot be opened: another order was accepted with the id, or it was cancelled."""
    accepted = (await connection.execute(select(accepted_orders).where(_ACCEPTED), {"order_id": order_id})).one()
    if accepted.state == "cancelled":
        return f"Order {order_id} was cancelled before it began. Use a new id."
    return id_is_used(order_id, accepted.accepted_at, accepted.operation, accepted.subscriber_ref)


def id_is_used(order_id: str, at: datetime, operation: str, subscriber_ref: str) -> str:
    """Return the refusal of an order whose id belongs to another order."""
    return (
        f"Order id {order_id} was used on {at:%Y-%m-%d %H:%M %Z} for another "
        f"{operation} (subscriber {subscriber_ref}): an id belongs to one order. Use a new id."
    )


def no_tenant(tenant: str) -> UnknownTenantError:
    """Return the refusal of an order whose tenant does not exist."""
    return UnknownTenantError(f"Tenant {tenant} does not exist. Add it with `lastmile tenant add`.")


_LAST_OTHER_ORDER = DirectStatement(
    """
    SELECT effect, status, result FROM orders
    WHERE subscriber_ref = :subscriber_ref AND order_id <> :order_id
      AND effect IN ('creates', 'ends') AND NOT lastmile_order_rolled_back(status)
    ORDER BY created_at DESC, order_id LIMIT 1
    """
)


@dataclass(frozen=True, slots=True)
class LineOrder:
    """The last order that created the subscriber's line, or ended it."""

    result: dict[str, Any] | None
    """The result of the order that created the line. None: the last order ended the line, or was terminated halfway."""


async def read_line_order(connection: TenantConnection, subscriber_ref: str, order_id: str) -> LineOrder | None:
    """Return the last order that created or ended the subscriber's line, other than `order_id`; None if none did."""
    asked = {"subscriber_ref": subscriber_ref, "order_id": order_id}
    row = await _LAST_OTHER_ORDER.one_or_none(connection, asked)
    if row is None:
        return None
    in_service = row.effect == LineEffect.CREATES and row.status in (OrderStatus.COMPLETED, OrderStatus.DEGRADED)
    return LineOrder(dict(row.result or {}) if in_service else None)


@dataclass(frozen=True, slots=True)
class ClosedOrder:
    """An order that has just ended."""

    operation: str
    effect: LineEffect
    seconds: float
    """The duration of the order."""


async def close_order(
    connection: TenantConnection, order_id: str, status: OrderStatus, result: dict[str, Any]
) -> ClosedOrder | None:
    """Record the status and the result of an ended order. Return None if the order had ended before.

    The first recorded result stays.
    """
    row = await _CLOSE.one_or_none(connection, {"order_id": order_id, "status": status, "result": result})
    if row is None:
        return None
    return ClosedOrder(row.operation, LineEffect(row.effect), (row.finished_at - row.created_at).total_seconds())


async def has_ended(connection: TenantConnection, order_id: str) -> bool:
    """Return whether the order has ended, so that it returns its result when it is sent again."""
    ended = select(orders.c.order_id).where(
        orders.c.order_id == order_id, ~func.lastmile_order_unfinished(orders.c.status)
    )
    return await connection.scalar(ended) is not None


@dataclass(frozen=True, slots=True)
class EndedOrder:
    """An order that has ended."""

    digest: str
    """The digest of the order's content."""
    result: dict[str, Any]
    outdated: str
    """A text about the later order that has changed the line since this order ended; empty if there is none."""


# The newest later order that was not rolled back and has done something else than order `o`.
_LATER = """
    SELECT later.order_id AS later_order_id, later.operation AS later_operation, later.status AS later_status,
           later.created_at AS later_at
    FROM orders later
    WHERE later.tenant_id = o.tenant_id AND later.subscriber_ref = o.subscriber_ref
      AND later.created_at > o.created_at AND (later.operation <> o.operation OR o.effect = 'changes')
      AND NOT lastmile_order_rolled_back(later.status) AND o.status <> 'rolled_back'
    ORDER BY later.created_at DESC LIMIT 1
"""
_LATER_THAN = text(f"SELECT later.* FROM orders o CROSS JOIN LATERAL ({_LATER}) later WHERE o.order_id = :order_id")

_ENDED_ORDERS = text(
    f"""
    SELECT o.tenant_id, o.order_id, o.digest, o.result, later.*
    FROM unnest(CAST(:tenants AS text[]), CAST(:order_ids AS text[])) AS asked (tenant_id, order_id)
    JOIN orders o USING (tenant_id, order_id)
    LEFT JOIN LATERAL ({_LATER}) later ON true
    WHERE NOT lastmile_order_unfinished(o.status) AND o.status <> 'superseded'
    """
)


def _outdated(later: Row[Any] | None) -> str:
    """Return the text that tells a caller of a later order; empty without a later order."""
    if later is None or later.later_order_id is None:
        return ""
    return (
        f"this result is older than {later.later_operation} order {later.later_order_id} "
        f"({later.later_status.replace('_', ' ')}, begun on {later.later_at:%Y-%m-%d %H:%M %Z})"
    )


async def read_ended_orders(
    connection: PlatformConnection, asked: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], EndedOrder]:
    """Return those of the orders (tenant, order id) that have ended, by tenant and order id."""
    keys = {"tenants": [tenant for tenant, _ in asked], "order_ids": [order_id for _, order_id in asked]}
    rows = await connection.execute(_ENDED_ORDERS, keys)
    return {(row.tenant_id, row.order_id): EndedOrder(row.digest, row.result, _outdated(row)) for row in rows}


def _not_running(order_id: str) -> OrderFencedError:
    return OrderFencedError(f"Order {order_id} is no longer running: this late attempt changed nothing.")


def _ended(order_id: str) -> OrderFencedError:
    return OrderFencedError(f"Order {order_id} has ended: there is nothing to undo.")


# The order of the transaction. Row-level security leaves the orders of its tenant.
_THIS_ORDER = "order_id = current_setting('lastmile.order')"

_SUBSCRIBER_KEY = (
    "hashtextextended('lastmile.order/'"
    " || current_setting('lastmile.tenant') || '/' || current_setting('lastmile.subscriber'), 0)"
)

OPENING_FENCE = Fence(
    f"SELECT pg_advisory_xact_lock({_SUBSCRIBER_KEY})",
    _ended,  # never: the statement always finds a row
)
"""Lets no other order of the subscriber be opened until the transaction ends.

An activity of a terminated run can still be inserting its order and its first records. The next order waits for it,
finds that order, and supersedes it.
"""

CANCELLING_FENCE = Fence(
    f"SELECT FROM (SELECT pg_try_advisory_xact_lock({_SUBSCRIBER_KEY}) AS locked) tried WHERE locked",
    lambda order_id: OrderFencedError(f"An order of the subscriber of order {order_id} is being opened."),
)
"""As `OPENING_FENCE`, but refuses at once where an order of the subscriber is being opened: that can take seconds."""

STEP_FENCE = Fence(f"SELECT FROM orders WHERE {_THIS_ORDER} AND status = 'running' FOR SHARE", _not_running)
"""Locks the running order, so that no compensation of the order acts before the step's transaction ends."""

CLOSING_FENCE = Fence(f"SELECT FROM orders WHERE {_THIS_ORDER} AND status = 'running' FOR NO KEY UPDATE", _not_running)
"""As `STEP_FENCE`, for a transaction that also closes the order: no other step of the order acts until it ends."""

COMPENSATION_FENCE = Fence(
    f"UPDATE orders SET status = 'rolling_back' WHERE {_THIS_ORDER} AND lastmile_order_unfinished(status)", _ended
)
"""Sets the order to `rolling_back` and locks it, so that no step of the order acts from now on."""


@dataclass(frozen=True, slots=True)
class RecordedOrder:
    """The status of an order, and its result where it has ended."""

    status: OrderStatus
    result: dict[str, Any] | None


async def lock_order(connection: TenantConnection, order_id: str) -> RecordedOrder:
    """Lock the order's row until the transaction ends, and return its state.

    Raises:
        OrderFencedError: the order has no row.
    """
    row = await _READ_LOCKED.one_or_none(connection, {"order_id": order_id})
    if row is None:
        raise OrderFencedError(f"Order {order_id} was never opened: this late attempt changed nothing.")
    return RecordedOrder(OrderStatus(row.status), row.result)
