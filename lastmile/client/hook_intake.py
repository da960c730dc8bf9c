"""The intake of events that CRMs send by webhook: commit, map, order.

An event is committed before its mapping begins. Its orders have ids that follow from the source and the event, so that
a repeat after any failure makes no second order.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from lastmile.client.errors import ClientError
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.contract import AnyOrder
from lastmile.contract.operations import OPERATIONS
from lastmile.contract.orders import Operation
from lastmile.db import Database
from lastmile.encryption.keys import KeyRing
from lastmile.errors import InvalidInputError, NonRetryableError
from lastmile.services.hooks.events import (
    KEPT,
    HookEvent,
    HookEventState,
    insert_event,
    read_events_to_order,
    read_line_facts,
    settle_event,
)
from lastmile.services.hooks.mapping import Body, Ignored, LineFacts, OrderDraft, UnmappableError
from lastmile.services.hooks.registry import MAPPINGS
from lastmile.services.hooks.sources import HookSource
from lastmile.services.sealed_bodies import seal, unseal
from lastmile.subscribers.accepted_orders import WhenBusy, find_order
from lastmile.validation_messages import mistakes

__all__ = ["HookIntake", "HookReceipt"]

MOST_ORDERS = 9
"""The orders that one event can have."""
_EVENT_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,35}")

log = structlog.get_logger("lastmile.hooks")


@dataclass(frozen=True, slots=True)
class HookReceipt:
    """What came of an event that was received."""

    event: HookEvent
    new: bool
    """Whether the event was received for the first time."""


class HookIntake:
    """Receives events and orders what they stand for."""

    def __init__(self, database: Database, acceptance: OrderAcceptance, keys: KeyRing | None = None) -> None:
        """`keys` encrypt the bodies of events that are kept."""
        self._database = database
        self._acceptance = acceptance
        self._keys = keys

    async def receive(self, source: HookSource, body: Body, content: bytes) -> HookReceipt:
        """Commit the event and order what it stands for. `content` is the body as it was sent.

        The same event again is mapped again only while it is kept. A failure of the database leaves the event as
        received, or not received at all: a repeat continues.
        """
        mapping = MAPPINGS[source.mapping]
        identity = mapping.identify(body)
        event_id = _usable(identity.event_id, content)
        sealed = seal(content, self._keys)
        async with self._database.tenant(source.tenant, actor=source.actor) as connection:
            event, new = await insert_event(connection, source.tenant, source.name, event_id, identity, sealed)
        if event.state in KEPT:
            event = await self.order(source, event)
        return HookReceipt(event, new)

    async def order(self, source: HookSource, event: HookEvent) -> HookEvent:
        """Map a kept event and accept its orders, after those of earlier events that the subscriber still waits for.

        Events that are recorded in one sequence therefore become orders in that sequence, also if their requests
        overtake each other afterwards.
        """
        async with self._database.tenant(source.tenant) as connection:
            due = await read_events_to_order(connection, event)
        for one in due:
            event = await self._order(source, one) if one.state in KEPT else one
        return event

    async def _order(self, source: HookSource, event: HookEvent) -> HookEvent:
        base, accepted, problem = _order_id(event), [], None
        async with self._database.tenant(source.tenant) as connection:
            ref = event.subscriber_ref
            line = LineFacts(None) if ref is None else await read_line_facts(connection, source.name, ref)
            ordered_before = await find_order(connection, base) is not None
        try:
            outcome = self._map(source, event, line)
            if isinstance(outcome, Ignored) and not ordered_before:
                return await self._settle(source, event, HookEventState.IGNORED, reason=outcome.reason)
            for order in [] if isinstance(outcome, Ignored) else self._orders(source, event, outcome):
                await self._acceptance.accept(order, WhenBusy.WAIT)
                accepted.append(order.order_id)
        except (NonRetryableError, InvalidInputError, ClientError) as failure:
            problem = str(failure)
        if problem is not None:
            log.warning(
                "hook.kept", tenant=source.tenant, source=source.name, kind=event.event, event_id=event.event_id
            )
            return await self._settle(source, event, HookEventState.FAILED, reason=problem, order_ids=accepted)
        # An event whose order was accepted before this process or another one recorded so: the order is the outcome.
        return await self._settle(source, event, HookEventState.ORDERED, order_ids=accepted or [base])

    def _map(self, source: HookSource, event: HookEvent, line: LineFacts) -> Sequence[OrderDraft] | Ignored:
        """Map the event. A fault of the mapping is an event that cannot be mapped: it must not lose the event."""
        assert event.body is not None
        content = unseal(event.body, self._keys, f"Event {event.event_id} of hook source {source.name}")
        try:
            return MAPPINGS[source.mapping].to_orders(json.loads(content), line)
        except UnmappableError:
            raise
        except Exception as fault:
            log.exception("hook.mapping_failed", source=source.name, kind=event.event, event_id=event.event_id)
            raise UnmappableError(
                f"The mapping {source.mapping} failed: {type(fault).__name__}. The log of this process has the reason. "
                "Correct the mapping, and retry the event."
            ) from None

    def _orders(self, source: HookSource, event: HookEvent, drafts: Sequence[OrderDraft]) -> list[AnyOrder]:
        """Validate the drafts. Nothing is ordered where one of them is invalid."""
        if not 0 < len(drafts) <= MOST_ORDERS:
            raise UnmappableError(
                f"The mapping {source.mapping} made {len(drafts)} orders, and one to nine are allowed."
            )
        base = _order_id(event)
        return [
            _to_order(
                draft,
                tenant=source.tenant,
                order_id=base if number == 1 else f"{base}-{number}",
                requested_by=source.actor,
            )
            for number, draft in enumerate(drafts, 1)
        ]

    async def _settle(
        self,
        source: HookSource,
        event: HookEvent,
        state: HookEventState,
        *,
        reason: str | None = None,
        order_ids: Sequence[str] = (),
    ) -> HookEvent:
        async with self._database.tenant(source.tenant, actor=source.actor) as connection:
            return await settle_event(connection, event, state, reason=reason, order_ids=order_ids)


def _usable(event_id: str | None, content: bytes) -> str:
    """Return the id of the event; where it cannot be a part of an order id, one that follows from the event."""
    if event_id is not None and _EVENT_ID.fullmatch(event_id):
        return event_id
    return f"sha256-{hashlib.sha256(content if event_id is None else event_id.encode()).hexdigest()[:29]}"


def _order_id(event: HookEvent) -> str:
    return f"{event.source}-{event.event_id}"


def _to_order(draft: OrderDraft, *, tenant: str, order_id: str, requested_by: str) -> AnyOrder:
    model = OPERATIONS[Operation(draft["operation"])].model
    fields = {name: value for name, value in draft.items() if name != "operation"}
    try:
        order: AnyOrder = model.model_validate(
            fields | {"tenant": tenant, "order_id": order_id, "requested_by": requested_by}
        )
    except ValidationError as failure:
        problems = mistakes(failure, model)
        raise UnmappableError(f"The {draft['operation']} order would be invalid: {'; '.join(problems)}.") from None
    return order
