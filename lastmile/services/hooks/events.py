"""The records of events that came by webhook: each is committed before it is answered, and none is dropped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    LargeBinary,
    Row,
    Table,
    Text,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from lastmile.contract.line_states import LineState
from lastmile.contract.operations import LineEffect, operations_that
from lastmile.contract.orders import Operation
from lastmile.db import Database, TenantConnection, metadata
from lastmile.fields.unsafe import escape
from lastmile.services.hooks.mapping import EventIdentity, LineFacts
from lastmile.subscribers.accepted_orders import SealedBody

__all__ = [
    "KEPT",
    "HookEvent",
    "HookEventState",
    "hook_events",
    "ignore_event",
    "insert_event",
    "list_events",
    "read_events_to_order",
    "read_line_facts",
    "settle_event",
]


class HookEventState(StrEnum):
    """The state of an event."""

    RECEIVED = "received"
    """The event is committed, and its mapping has not ended. A repeat of the event, or a retry, continues."""
    ORDERED = "ordered"
    """The orders of the event are accepted."""
    IGNORED = "ignored"
    """The event needs no order, or an operator has decided that it needs none. The reason says why."""
    FAILED = "failed"
    """The event could not become an order, and is kept. The reason says why."""


KEPT = (HookEventState.RECEIVED, HookEventState.FAILED)
"""The states of an event that still has its body."""

LONGEST_REASON = 2000

hook_events = Table(
    "hook_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("subscriber_ref", Text),
    Column("customer_ref", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("order_ids", ARRAY(Text), nullable=False),
    Column("key_name", Text),
    Column("body", LargeBinary),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)


@dataclass(frozen=True, slots=True)
class HookEvent:
    """An event that came by webhook."""

    id: int
    """The number of the event in Lastmile. Events of one subscriber become orders in this sequence."""
    tenant: str
    source: str
    event_id: str
    event: str
    subscriber_ref: str | None
    state: HookEventState
    reason: str | None
    order_ids: tuple[str, ...]
    received_at: datetime
    body: SealedBody | None = field(repr=False)
    """None: the event is settled."""


_INSERT = (
    insert(hook_events)
    .values(
        {
            column: bindparam(column)
            for column in (
                *("tenant_id", "source", "event_id", "event", "subscriber_ref", "customer_ref", "key_name", "body"),
            )
        }
        | {"state": HookEventState.RECEIVED.value, "order_ids": []}
    )
    .on_conflict_do_nothing()
    .returning(hook_events)
)
# One statement, so that no order ends between the look at the line and the look at the orders. `open` are the orders
# that have not ended, the oldest first. A scheduled order counts: it will come.
_LINE = text(
    """
    SELECT EXISTS (SELECT FROM subscribers WHERE ref = :ref AND archived_at IS NULL) AS has_line,
           EXISTS (SELECT FROM suspensions WHERE subscriber_ref = :ref AND ended_at IS NULL) AS suspended,
           array(SELECT operation FROM (
               SELECT operation, created_at AS since FROM orders
               WHERE subscriber_ref = :ref AND lastmile_order_unfinished(status)
               UNION ALL
               SELECT operation, accepted_at FROM accepted_orders
               WHERE subscriber_ref = :ref AND state IN ('waiting', 'scheduled')
           ) o ORDER BY since) AS open,
           array(SELECT DISTINCT event FROM hook_events
                 WHERE source = :source AND subscriber_ref = :ref AND state = 'failed') AS kept
    """
)
_RESULTING_STATES: dict[Operation, LineState | None] = {
    **dict.fromkeys(operations_that(LineEffect.CREATES), LineState.IN_SERVICE),
    **dict.fromkeys(operations_that(LineEffect.ENDS), None),
    Operation.SUSPEND: LineState.SUSPENDED,
    Operation.RESUME: LineState.IN_SERVICE,
}


async def insert_event(
    connection: TenantConnection, tenant: str, source: str, event_id: str, identity: EventIdentity, body: SealedBody
) -> tuple[HookEvent, bool]:
    """Record the event, and return it and whether it is new. The same event again returns what is known of it."""
    given = {
        "tenant_id": tenant,
        "source": source,
        "event_id": event_id,
        "event": identity.name,
        "subscriber_ref": identity.subscriber_ref,
        "customer_ref": identity.customer_ref,
        "key_name": body.key_name,
        "body": body.content,
    }
    if row := (await connection.execute(_INSERT, given)).one_or_none():
        return _event(row), True
    known = select(hook_events).where(hook_events.c.source == source, hook_events.c.event_id == event_id)
    return _event((await connection.execute(known)).one()), False


async def read_events_to_order(connection: TenantConnection, event: HookEvent) -> list[HookEvent]:
    """Return the event as it is now, and before it the received ones of the same subscriber that came earlier."""
    earlier = (
        (hook_events.c.source == event.source)
        & (hook_events.c.subscriber_ref == event.subscriber_ref)
        & (hook_events.c.state == HookEventState.RECEIVED.value)
        & (hook_events.c.id < event.id)
    )
    due = select(hook_events).where(earlier | (hook_events.c.id == event.id)).order_by(hook_events.c.id)
    found = await connection.execute(due)
    return [_event(row) for row in found]


async def read_line_facts(connection: TenantConnection, source: str, subscriber_ref: str) -> LineFacts:
    """Return what is known of the subscriber's line as it will be when its accepted orders have ended."""
    row = (await connection.execute(_LINE, {"ref": subscriber_ref, "source": source})).one()
    state = (LineState.SUSPENDED if row.suspended else LineState.IN_SERVICE) if row.has_line else None
    for operation in row.open:
        state = _RESULTING_STATES.get(Operation(operation), state)
    return LineFacts(state, frozenset(row.kept))


async def settle_event(
    connection: TenantConnection,
    event: HookEvent,
    state: HookEventState,
    *,
    reason: str | None = None,
    order_ids: Sequence[str] = (),
) -> HookEvent:
    """Record what came of a kept event. A settled event loses its body; what was settled before stays as it is."""
    dropped = {} if state in KEPT else {"body": None, "key_name": None}
    words = None if reason is None else escape(reason)[:LONGEST_REASON]
    change = (
        update(hook_events)
        .where(hook_events.c.id == event.id, hook_events.c.state.in_(KEPT))
        .values(state=state.value, reason=words, order_ids=list(order_ids), **dropped)
    )
    await connection.execute(change)
    return _event((await connection.execute(select(hook_events).where(hook_events.c.id == event.id))).one())


async def list_events(
    database: Database,
    tenant: str | None = None,
    states: Sequence[HookEventState] = KEPT,
    *,
    age: timedelta = timedelta(),
) -> list[HookEvent]:
    """Return the events in these states that are at least so old, the oldest first; with `tenant` only its own."""
    old_enough = hook_events.c.received_at <= func.clock_timestamp() - age
    query = select(hook_events).where(hook_events.c.state.in_(states), old_enough).order_by(hook_events.c.id)
    if tenant is not None:
        query = query.where(hook_events.c.tenant_id == tenant)
    async with database.platform() as connection:
        return [_event(row) for row in await connection.execute(query)]


async def ignore_event(database: Database, event: HookEvent, why: str, *, actor: str) -> HookEvent:
    """Record that an operator wants no order for the event, and drop its body."""
    reason = f"{actor}: {why}"
    async with database.tenant(event.tenant, actor=actor) as connection:
        return await settle_event(connection, event, HookEventState.IGNORED, reason=reason, order_ids=event.order_ids)


def _event(row: Row[Any]) -> HookEvent:
    return HookEvent(
        id=row.id,
        tenant=row.tenant_id,
        source=row.source,
        event_id=row.event_id,
        event=row.event,
        subscriber_ref=row.subscriber_ref,
        state=HookEventState(row.state),
        reason=row.reason,
        order_ids=tuple(row.order_ids),
        received_at=row.received_at,
        body=None if row.body is None else SealedBody(row.body, row.key_name),
    )
