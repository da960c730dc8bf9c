"""Orders: send, list, read, cancel, move, and decide about a parked step."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant, one_tenant_or_all
from lastmile.api.context import ApiContext, Context
from lastmile.api.order_events import order_events
from lastmile.api.order_models import DryRun, Order, OrderChange, OrderReason, OrderRequest, to_order
from lastmile.api.pagination import PageOf, Paging
from lastmile.api.parameters import FilterText
from lastmile.api.preconditions import NOT_MODIFIED, IfMatch, IfNoneMatch, entity_tag
from lastmile.api.preferences import Preferred, plan, wait_for_end
from lastmile.api.problems import ProblemError, Violation
from lastmile.client.decisions import decide
from lastmile.client.order_steering import cancel_order, change_scheduled_order, read_progress
from lastmile.client.parked_runs import parked_orders
from lastmile.contract import Decision
from lastmile.contract.lines import Reference
from lastmile.contract.orders import Operation, Reason, Urgency
from lastmile.fields.rules import rule_error
from lastmile.fields.scalars import Moment
from lastmile.services.records.orders import OrderFilter, OrderRecord, OrderSort, find_order_record, list_order_records
from lastmile.subscribers.accepted_orders import AcceptedState
from lastmile.subscribers.orders import OrderStatus

__all__ = ["router"]

router = APIRouter(prefix="/v1/orders", tags=["orders"], route_class=GuardedRoute)

Reader = Annotated[Principal, requires(Permission.ORDERS_READ)]
Writer = Annotated[Principal, requires(Permission.ORDERS_WRITE)]
Operator = Annotated[Principal, requires(Permission.OPS_STEER)]
OrderId = Annotated[Reference, Path(description="The id of the order.")]
STATUSES = ", ".join(f"'{status}'" for status in (*AcceptedState, *OrderStatus))


def _one_of_all(written: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Name all statuses at once: each member of the union would name its own as the only ones."""
    try:
        return read(written)
    except ValidationError:
        raise rule_error(f"must be one of {STATUSES}") from None


Status = Annotated[AcceptedState | OrderStatus, WrapValidator(_one_of_all)]

OPEN = {OrderStatus.RUNNING, OrderStatus.ROLLING_BACK}
PROGRESS_SECONDS = 3
"""How long a worker may take to answer for the steps of a running order."""


@router.post(
    "",
    status_code=202,
    responses={
        200: {"description": "The same order again, an order that ended in time, or the plan of a dry run."},
        202: {"description": "The order is accepted, and is not lost: the work goes on."},
        404: {"description": "The subscriber or the tenant is unknown."},
        409: {
            "description": "Another order of the subscriber is running (`running` names it), the id belongs to another "
            "order, or the order does not fit the state of the line."
        },
    },
)
async def send_order(
    context: Context,
    caller: Writer,
    body: Annotated[OrderRequest, Body()],
    response: Response,
    preferred: Preferred,
    idempotency_key: Annotated[
        Reference | None,
        Header(alias="Idempotency-Key", description="The order id where the body has none."),
    ] = None,
    tenant: TenantQuery = None,
) -> Order | DryRun:
    """Accept an order. The same order again returns its status, or its result."""
    order_id = body.order_id or idempotency_key
    if order_id is None:
        missing = Violation(detail="is missing, and so is the header Idempotency-Key", pointer="/order_id")
        raise ProblemError(
            "invalid", "An order needs an id of its own, which makes it safe to send it again.", errors=[missing]
        )
    owner = one_tenant(caller, body.tenant or tenant)
    try:
        order = to_order(body, tenant=owner, order_id=order_id, requested_by=caller.subject[:100])
    except ValidationError as failure:
        found = [
            {**one, "loc": ("body", *one["loc"])} for one in failure.errors(include_url=False, include_input=False)
        ]
        raise RequestValidationError(found) from None
    if preferred.dry_run:
        response.status_code, response.headers["Preference-Applied"] = 200, "dry-run"
        return await plan(context, order)
    acceptance = await context.acceptance.accept(order, body.when_busy)
    answer = Order.accepted(acceptance)
    if not acceptance.new and (record := await find_order_record(context.database, owner, order_id)):
        answer = Order.recorded(record)  # as it is now: it can have been moved, and it can have been sent by another
    if preferred.wait and acceptance.result is None:
        response.headers["Preference-Applied"] = f"wait={preferred.wait}"
        if record := await wait_for_end(context, owner, order_id, preferred.wait):
            answer = Order.recorded(record)
    response.headers["Location"] = answer.href
    response.status_code = 200 if answer.result is not None or not acceptance.new else 202
    return answer


@router.get("")
async def get_orders(
    context: Context,
    caller: Reader,
    paging: Paging,
    tenant: TenantQuery = None,
    status: Annotated[list[Status], Query()] = [],  # noqa: B006 -- FastAPI copies it
    operation: Annotated[list[Operation], Query()] = [],  # noqa: B006 -- FastAPI copies it
    subscriber: Annotated[list[Reference], Query()] = [],  # noqa: B006 -- FastAPI copies it
    requested_by: Annotated[list[FilterText], Query()] = [],  # noqa: B006 -- FastAPI copies it
    urgency: Annotated[list[Urgency], Query()] = [],  # noqa: B006 -- FastAPI copies it
    attention: Annotated[
        Literal["true"] | None, Query(description="`true`: only orders that wait for an operator.")
    ] = None,
    created_at__gte: Moment | None = None,
    created_at__lte: Moment | None = None,
    sort: OrderSort = OrderSort.NEWEST_FIRST,
) -> PageOf[OrderRecord]:
    """List accepted, running and ended orders, the newest first. A repeated filter means any of its values."""
    owner = one_tenant_or_all(caller, tenant)
    temporal = context.temporal
    parked = await parked_orders(temporal.client, temporal.task_queue, owner) if attention else None
    wanted = OrderFilter(
        status, operation, subscriber, requested_by, urgency, created_at__gte, created_at__lte, only=parked
    )
    page = await list_order_records(context.database, owner, paging.request, wanted, sort)
    return paging.answer(page)


@router.get("/{order_id}", response_model=Order, responses=NOT_MODIFIED)
async def get_order(
    context: Context, caller: Reader, order_id: OrderId, if_none_match: IfNoneMatch, tenant: TenantQuery = None
) -> Order | Response:
    """Read an order: its steps as they are now while it runs, and its result once it has ended."""
    record = await _find(context, one_tenant(caller, tenant), order_id)
    order = Order.recorded(record)
    if record.status in OPEN:
        asked = read_progress(context.temporal.orders, record.tenant, record.subscriber_ref, order_id)
        try:
            order = order.with_progress(await asyncio.wait_for(asked, PROGRESS_SECONDS))
        except TimeoutError:
            order = order.with_progress(None)
    return if_none_match.answer(order)


async def _followed(context: Context, caller: Reader, order_id: OrderId, tenant: TenantQuery = None) -> OrderRecord:
    return await _find(context, one_tenant(caller, tenant), order_id)


@router.get(
    "/{order_id}/events",
    response_class=EventSourceResponse,
    responses={200: {"description": "`step`, `parked` and `ended`, each once. The stream ends with the order."}},
)
async def follow_order(
    context: Context,
    record: Annotated[OrderRecord, Depends(_followed)],
    last_event_id: Annotated[
        str | None, Header(max_length=200, description="The id of the last event that you got.")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow an order by server-sent events."""
    async for event in order_events(context.watch, record.tenant, record.order_id, last_event_id):
        yield event


@router.post(
    "/{order_id}/cancel",
    status_code=202,
    responses={
        200: {"description": "The order had not begun."},
        409: {"description": "The order has ended, or is past its point of no return."},
    },
)
async def cancel(
    context: Context,
    caller: Writer,
    order_id: OrderId,
    body: OrderReason,
    response: Response,
    tenant: TenantQuery = None,
) -> Order:
    """Cancel an order: before it begins at once; until its point of no return by rolling it back."""
    record = await _find(context, one_tenant(caller, tenant), order_id)
    if await cancel_order(
        context.database,
        context.temporal.orders,
        record.tenant,
        order_id,
        actor=caller.subject[:100],
        reason=body.reason,
    ):
        response.status_code = 200
    return Order.recorded(await _find(context, record.tenant, order_id))


@router.patch(
    "/{order_id}",
    responses={
        409: {"description": "The order is not scheduled."},
        412: {"description": "The order has changed since the ETag of `If-Match`."},
    },
)
async def change(
    context: Context,
    caller: Writer,
    order_id: OrderId,
    body: OrderChange,
    if_match: IfMatch,
    response: Response,
    tenant: TenantQuery = None,
) -> Order:
    """Change the time at which a scheduled order starts, or its urgency."""
    record = await _find(context, one_tenant(caller, tenant), order_id)
    if body.not_before is not None and body.not_before <= datetime.now(UTC):
        past = Violation(detail="must be in the future", pointer="/not_before")
        raise ProblemError("invalid", "The order cannot start in the past.", errors=[past])
    if record.status != AcceptedState.SCHEDULED:
        now = record.status.replace("_", " ")
        words = f"Order {order_id} is {now}, and not scheduled. Only a scheduled order can be changed."
        raise ProblemError("not-scheduled", words)
    await change_scheduled_order(
        context.database,
        context.temporal.orders,
        record,
        at=body.not_before,
        urgency=body.urgency,
        actor=caller.subject[:100],
        check=lambda found: if_match.check(Order.recorded(found)),
    )
    changed = Order.recorded(await _find(context, record.tenant, order_id))
    response.headers["ETag"] = entity_tag(changed)
    return changed


class OrderDecision(BaseModel):
    """A decision about the parked step of an order."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["retry", "skip", "abandon"]
    why: Reason
    step: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")] | None = None


class Decided(BaseModel):
    """The answer of a run to a decision."""

    order: str
    done: str


@router.post("/{order_id}/decision", responses={409: {"description": "The order is not parked."}})
async def decide_order(
    context: Context, caller: Operator, order_id: OrderId, body: OrderDecision, tenant: TenantQuery = None
) -> Decided:
    """Decide about the parked step: `retry` it, `skip` it, or `abandon` the order as it stands."""
    record = await _find(context, one_tenant(caller, tenant), order_id)
    if record.status not in OPEN:
        raise ProblemError("not-running", f"Order {order_id} is {record.status.replace('_', ' ')}, and is not parked.")
    decision = Decision(by=caller.subject[:100], why=body.why, step=body.step)
    order, done = await decide(context.temporal, record.tenant, record.subscriber_ref, body.decision, decision)
    return Decided(order=order, done=done)


async def _find(context: ApiContext, tenant: str, order_id: str) -> OrderRecord:
    if (record := await find_order_record(context.database, tenant, order_id)) is None:
        raise ProblemError("not-found", f"There is no order {order_id}.")
    return record
