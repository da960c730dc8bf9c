"""The records of accepted orders: committed for the caller, and not yet opened by a workflow.

`lastmile.subscribers.orders.open_order` moves a row to `orders`. A refused or cancelled order keeps its row, without
its body: an order id belongs to one order for ever.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Interval, Row, bindparam, func, text, update
from sqlalchemy.exc import IntegrityError

from lastmile.contract.orders import AnyOrder, Urgency
from lastmile.db import PlatformConnection, TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.subscribers.orders import OrderStatus, no_tenant
from lastmile.subscribers.tables import accepted_orders

__all__ = [
    "ENDED_WITHOUT_RESULT",
    "AcceptedOrder",
    "AcceptedState",
    "EarlierOrder",
    "Insertion",
    "KnownOrder",
    "SealedBody",
    "WhenBusy",
    "cancel_accepted_order",
    "claim_scheduled_orders",
    "claim_waiting_orders",
    "find_earlier_order",
    "find_order",
    "insert_accepted_order",
    "mark_scheduled",
    "refuse_accepted_order",
    "release_claim",
]


class AcceptedState(StrEnum):
    """The state of an accepted order that no workflow has opened."""

    WAITING = "waiting"
    """To be started: now, or when the subscriber is free."""
    SCHEDULED = "scheduled"
    """A Temporal Schedule holds the order until its `not_before`."""
    REFUSED = "refused"
    """The order cannot be carried out. The reason says why."""
    CANCELLED = "cancelled"
    """The order was cancelled before a workflow opened it."""


ENDED_WITHOUT_RESULT = {AcceptedState.REFUSED, AcceptedState.CANCELLED, OrderStatus.SUPERSEDED}
"""The statuses of orders that have ended and did nothing, or whose run was terminated."""


class WhenBusy(StrEnum):
    """What happens to an order whose subscriber has another open order."""

    REFUSE = "refuse"
    WAIT = "wait"
    """The order is started when the earlier orders of the subscriber have ended."""


@dataclass(frozen=True, slots=True)
class SealedBody:
    """The content of an order as it is stored."""

    content: bytes
    key_name: str | None
    """The key that encrypts the content; None: the content is not encrypted."""


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """What the database knows of an order: its row in `orders`, or in `accepted_orders`."""

    operation: str
    subscriber_ref: str
    digest: str
    status: str
    """A value of `OrderStatus` or `AcceptedState`."""
    reason: str
    """Why the order was refused or cancelled before it began; otherwise empty."""
    result: dict[str, Any] | None
    """The result, if the order has ended."""
    at: datetime
    """When the order was accepted, or opened."""
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class EarlierOrder:
    """An order of the subscriber that must end before another one can start."""

    order_id: str
    operation: str
    since: datetime
    open: bool
    """Whether a workflow has opened the order. False: it was accepted and waits itself."""


@dataclass(frozen=True, slots=True)
class Insertion:
    """What came of recording an order as accepted."""

    at: datetime | None
    """When the order was accepted; None: it was not."""
    ahead: bool
    """Whether the order is one of a later date, which waits for no other order now."""
    known: KnownOrder | None
    """The order that has the id already."""
    earlier: EarlierOrder | None
    """The order of the subscriber that must end first."""


@dataclass(frozen=True, slots=True)
class AcceptedOrder:
    """An accepted order that a sweeper has claimed."""

    tenant: str
    order_id: str
    operation: str
    subscriber_ref: str
    digest: str
    body: SealedBody | None
    """None: a Schedule holds the order."""


_URGENCIES = [urgency.value for urgency in Urgency]

_KNOWN = """
    SELECT operation, subscriber_ref, digest, status, '' AS reason, result, created_at AS at,
           NULL::timestamptz AS not_before
    FROM orders WHERE order_id = :order_id
    UNION ALL
    SELECT operation, subscriber_ref, digest, state, coalesce(reason, ''), NULL, accepted_at, not_before
    FROM accepted_orders WHERE order_id = :order_id
    LIMIT 1
"""
_EARLIER = """
    SELECT order_id, operation, created_at AS since, true AS open FROM orders
    WHERE subscriber_ref = :subscriber_ref AND lastmile_order_unfinished(status)
    UNION ALL
    SELECT order_id, operation, accepted_at, false FROM accepted_orders
    WHERE subscriber_ref = :subscriber_ref AND state = 'waiting' AND NOT lastmile_is_ahead(not_before)
    ORDER BY since LIMIT 1
"""
_FIND = DirectStatement(_KNOWN)
_FIND_EARLIER = DirectStatement(_EARLIER)
# One round trip: an order is accepted while its caller waits.
_INSERT = DirectStatement(
    f"""
    WITH known AS MATERIALIZED ({_KNOWN}),
    earlier AS MATERIALIZED (SELECT * FROM ({_EARLIER}) found WHERE NOT lastmile_is_ahead(:not_before)),
    inserted AS (
        INSERT INTO accepted_orders (tenant_id, order_id, operation, subscriber_ref, customer_ref, digest, requested_by,
                                     urgency, not_before, when_busy, state, key_name, body)
        SELECT :tenant_id, :order_id, :operation, :subscriber_ref, :customer_ref, :digest, :requested_by,
               :urgency, :not_before, :when_busy, 'waiting', :key_name, :body
        WHERE NOT EXISTS (SELECT FROM known) AND (:when_busy = 'wait' OR NOT EXISTS (SELECT FROM earlier))
        ON CONFLICT DO NOTHING
        RETURNING accepted_at
    )
    SELECT accepted_at, lastmile_is_ahead(:not_before) AS ahead, known, earlier
    FROM (VALUES (1)) always LEFT JOIN inserted ON true LEFT JOIN known ON true LEFT JOIN earlier ON true
    """
)
# Where an order of the subscriber is open, Temporal is asked only once in a while: the run may be lost, and the next
# order of the subscriber then takes over.
_CLAIM_WAITING = text(
    """
    UPDATE accepted_orders a SET claimed_until = now() + CAST(:lease AS interval)
    FROM (
        SELECT tenant_id, order_id FROM accepted_orders JOIN startable_orders s USING (tenant_id, order_id, accepted_at)
        WHERE accepted_at <= now() - CAST(:age AS interval)
          AND coalesce(s.claimed_until, '-infinity') <= now()
          AND (NOT s.busy OR coalesce(s.claimed_until, accepted_at) <= now() - CAST(:busy_pause AS interval))
        ORDER BY array_position(CAST(:urgencies AS text[]), urgency), accepted_at
        LIMIT :batch FOR UPDATE OF accepted_orders SKIP LOCKED
    ) due
    WHERE a.tenant_id = due.tenant_id AND a.order_id = due.order_id AND a.state = 'waiting'
    RETURNING a.*
    """
)
_CLAIM_SCHEDULED = text(
    """
    UPDATE accepted_orders a SET claimed_until = now() + CAST(:lease AS interval)
    FROM (
        SELECT tenant_id, order_id FROM accepted_orders
        WHERE state = 'scheduled' AND claimed_until <= now() AND not_before > now() - CAST(:past AS interval)
        ORDER BY claimed_until LIMIT :batch FOR UPDATE SKIP LOCKED
    ) due
    WHERE a.tenant_id = due.tenant_id AND a.order_id = due.order_id
    RETURNING a.*
    """
)


async def find_order(connection: TenantConnection, order_id: str) -> KnownOrder | None:
    """Return what the database knows of the order; None where it knows no order of this id."""
    row = await _FIND.one_or_none(connection, {"order_id": order_id})
    return None if row is None else KnownOrder(**row._mapping)


async def find_earlier_order(connection: TenantConnection, subscriber_ref: str) -> EarlierOrder | None:
    """Return the oldest order of the subscriber that runs or waits to be started now; None while there is none."""
    row = await _FIND_EARLIER.one_or_none(connection, {"subscriber_ref": subscriber_ref})
    return None if row is None else EarlierOrder(**row._mapping)


async def insert_accepted_order(
    connection: TenantConnection, order: AnyOrder, when_busy: WhenBusy, body: SealedBody
) -> Insertion:
    """Record the order as accepted, unless its id is known, or `when_busy` is `refuse` and the subscriber is busy.

    Raises:
        UnknownTenantError: the tenant does not exist.
    """
    values = {
        "tenant_id": order.tenant,
        "order_id": order.order_id,
        "operation": order.operation,
        "subscriber_ref": order.subscriber_ref,
        "customer_ref": order.customer_ref,
        "digest": order.digest,
        "requested_by": order.requested_by or None,
        "urgency": order.urgency,
        "not_before": order.not_before,
        "when_busy": when_busy,
        "key_name": body.key_name,
        "body": body.content,
    }
    try:
        (row,) = await _INSERT.all(connection, values)
    except IntegrityError as failure:
        raise no_tenant(order.tenant) from failure
    known = KnownOrder(*row.known) if row.known else None
    earlier = EarlierOrder(*row.earlier) if row.earlier else None
    refused = earlier is not None and when_busy is WhenBusy.REFUSE
    if row.accepted_at is None and known is None and not refused:
        # Another subscriber's order has taken the id at this moment, so the statement did not see it.
        known = await find_order(connection, order.order_id)
    return Insertion(row.accepted_at, row.ahead, known, earlier)


async def claim_waiting_orders(
    connection: PlatformConnection, *, age: timedelta, lease: timedelta, busy_pause: timedelta, batch: int
) -> list[AcceptedOrder]:
    """Claim orders that were accepted at least `age` ago and can start, and return them, the most urgent first.

    A claim ends with its `lease`. An order whose subscriber is busy is claimed once in a `busy_pause`.
    """
    given = {"age": age, "lease": lease, "busy_pause": busy_pause, "batch": batch, "urgencies": _URGENCIES}
    rows = await connection.execute(_CLAIM_WAITING, given)
    return [_accepted(row) for row in sorted(rows, key=lambda row: (_URGENCIES.index(row.urgency), row.accepted_at))]


async def claim_scheduled_orders(
    connection: PlatformConnection, *, past: timedelta, lease: timedelta, batch: int
) -> list[AcceptedOrder]:
    """Claim scheduled orders whose Schedule is to be looked at, also those that were due less than `past` ago."""
    rows = await connection.execute(_CLAIM_SCHEDULED, {"past": past, "lease": lease, "batch": batch})
    return [_accepted(row) for row in rows]


def _accepted(row: Row[Any]) -> AcceptedOrder:
    body = None if row.body is None else SealedBody(row.body, row.key_name)
    return AcceptedOrder(row.tenant_id, row.order_id, row.operation, row.subscriber_ref, row.digest, body)


_ROW = (accepted_orders.c.order_id == bindparam("id"), accepted_orders.c.digest == bindparam("content"))
_WITHOUT_BODY = {"body": None, "key_name": None}
_RELEASE = update(accepted_orders).where(*_ROW).values(claimed_until=func.now())
_END = (
    update(accepted_orders)
    .where(*_ROW, accepted_orders.c.state.in_([AcceptedState.WAITING, AcceptedState.SCHEDULED]))
    .values(state=bindparam("ended"), reason=bindparam("why"), **_WITHOUT_BODY)
    .returning(accepted_orders.c.order_id)
)
_MARK_SCHEDULED = (
    update(accepted_orders)
    .where(*_ROW, accepted_orders.c.state.in_([AcceptedState.WAITING, AcceptedState.SCHEDULED]))
    .values(
        state=AcceptedState.SCHEDULED,
        not_before=bindparam("at"),
        urgency=func.coalesce(bindparam("changed_urgency"), accepted_orders.c.urgency),
        claimed_until=func.now() + bindparam("look_after", type_=Interval()),
        **_WITHOUT_BODY,
    )
)


async def release_claim(connection: TenantConnection, order_id: str, digest: str) -> None:
    """End the claim of a sweeper now."""
    await connection.execute(_RELEASE, {"id": order_id, "content": digest})


async def mark_scheduled(
    connection: TenantConnection,
    order_id: str,
    digest: str,
    at: datetime,
    *,
    look_after: timedelta,
    urgency: Urgency | None = None,
) -> None:
    """Record that a Schedule holds the order until `at`, and drop its body. An `urgency` replaces that of the order.

    `look_after` is the time until a sweeper looks at the Schedule.
    """
    given = {"id": order_id, "content": digest, "at": at, "look_after": look_after, "changed_urgency": urgency}
    await connection.execute(_MARK_SCHEDULED, given)


async def refuse_accepted_order(connection: TenantConnection, order_id: str, digest: str, reason: str) -> bool:
    """Record that the order cannot be carried out, and drop its body. Return False where it does not wait any more."""
    return await _end(connection, order_id, digest, AcceptedState.REFUSED, reason)


async def cancel_accepted_order(connection: TenantConnection, order_id: str, digest: str, reason: str) -> bool:
    """Record that the order was cancelled, and drop its body. Return False where it does not wait any more.

    The transaction needs `OPENING_FENCE` or `CANCELLING_FENCE`: otherwise a workflow could open the order meanwhile.
    """
    return await _end(connection, order_id, digest, AcceptedState.CANCELLED, reason)


async def _end(connection: TenantConnection, order_id: str, digest: str, state: AcceptedState, reason: str) -> bool:
    given = {"id": order_id, "content": digest, "ended": state, "why": reason}
    return (await connection.execute(_END, given)).one_or_none() is not None
