"""Billing services, and the billing events that a billing system reads.

A change and its event are one statement. Events are never changed or deleted.
"""

from typing import NamedTuple

from sqlalchemy import Delete, Text, Update, bindparam, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import Insert, insert

from lastmile.contract.lines import ServicePlan
from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.subscribers.errors import RecordConflictError
from lastmile.subscribers.records import CreatedRecord
from lastmile.subscribers.tables import billing_events, billing_services, subscribers, suspensions

__all__ = [
    "Charge",
    "cancel_service",
    "change_plan",
    "create_service",
    "end_service",
    "resume_service",
    "resume_suspended_service",
    "suspend_service",
    "suspend_service_again",
]

# The mode of the line's suspension, or of the one that the order has ended and is restoring.
_MODE = (
    select(suspensions.c.mode)
    .where(
        suspensions.c.subscriber_ref == bindparam("ref"),
        or_(suspensions.c.ended_at.is_(None), suspensions.c.ended_by_order == bindparam("order_id")),
    )
    .order_by(suspensions.c.id.desc())
    .limit(1)
    .scalar_subquery()
)


def _recorded(event: str, change: Insert | Update | Delete) -> DirectStatement:
    """Return the statement that makes the change, writes the event of each changed service, and returns their ids."""
    changed = change.returning(billing_services).cte("changed")
    values = {
        "tenant_id": changed.c.tenant_id,
        "service_id": changed.c.id,
        "subscriber_ref": bindparam("ref", type_=Text),
        "event": literal(event),
        "plan": changed.c.plan,
        "price_ref": changed.c.price_ref,
        "order_id": bindparam("order_id", type_=Text),
        **({"mode": _MODE} if event == "suspended" else {}),
    }
    return DirectStatement(
        insert(billing_events).from_select([*values], select(*values.values())).returning(billing_events.c.service_id)
    )


_service = billing_services.c
_with_ref = select(subscribers.c.id).where(subscribers.c.ref == bindparam("ref"))
_is_current = _service.subscriber_id.in_(_with_ref.where(subscribers.c.archived_at.is_(None)))
_by_this_order = _service.suspended_by_order == bindparam("order_id")

_CREATE = _recorded(
    "started",
    insert(billing_services)
    .values(
        tenant_id=bindparam("tenant_id"),
        subscriber_id=bindparam("subscriber_id"),
        plan=bindparam("plan"),
        price_ref=bindparam("price_ref"),
        status="active",
        created_by_order=bindparam("order_id"),
    )
    .on_conflict_do_nothing(),
)
_CANCEL = _recorded(
    "cancelled",
    delete(billing_services).where(_is_current, _service.created_by_order == bindparam("order_id")),
)
_SUSPEND = _recorded(
    "suspended",
    update(billing_services)
    .where(_is_current, _service.status == "active")
    .values(status="suspended", suspended_by_order=bindparam("order_id")),
)
_RESUME = _recorded(
    "resumed",
    update(billing_services)
    .where(_is_current, _service.status == "suspended", _by_this_order)
    .values(status="active", suspended_by_order=None),
)
_SUSPEND_AGAIN = _recorded(
    "suspended",
    update(billing_services)
    .where(_is_current, _service.status == "active")
    .values(status="suspended", suspended_by_order=bindparam("suspended_by")),
)
_END = _recorded(
    "ended",
    update(billing_services)
    .where(_service.subscriber_id.in_(_with_ref), _service.status != "ended")
    .values(status="ended", ended_at=func.now()),
)
# Whichever order has suspended the service.
_RESTART = _recorded(
    "resumed",
    update(billing_services)
    .where(_service.id == bindparam("service_id"), _service.status == "suspended")
    .values(status="active", suspended_by_order=None),
)
_IS_SUSPENDED_BY = DirectStatement(select(_service.id).where(_is_current, _by_this_order))
# What the service was charged for is the result.
_CHANGE_PLAN = DirectStatement(
    """
    WITH before AS (
        SELECT s.* FROM billing_services s JOIN subscribers p ON p.id = s.subscriber_id
        WHERE p.ref = :ref AND p.archived_at IS NULL AND s.status <> 'ended' FOR UPDATE OF s
    ), changed AS (
        UPDATE billing_services s SET plan = :plan, price_ref = :price_ref FROM before
        WHERE s.id = before.id AND (before.plan, before.price_ref) IS DISTINCT FROM (:plan, :price_ref)
        RETURNING s.*, before.plan AS previous_plan
    ), event AS (
        INSERT INTO billing_events (tenant_id, service_id, subscriber_ref, event, plan, previous_plan, price_ref,
                                    order_id)
        SELECT tenant_id, id, :ref, 'plan_changed', plan, previous_plan, price_ref, :order_id FROM changed
    )
    SELECT id, plan, price_ref FROM before
    """
)


class Charge(NamedTuple):
    """What a service is charged for."""

    plan: str
    price_ref: str | None


async def create_service(
    connection: TenantConnection, tenant: str, order_id: str, subscriber: CreatedRecord, ref: str, plan: ServicePlan
) -> CreatedRecord:
    """Start charging for the line.

    Raises:
        RecordConflictError: the line is charged for another plan.
    """
    order = {"ref": ref, "order_id": order_id}
    values = {"tenant_id": tenant, "subscriber_id": subscriber.id, "plan": plan.name, "price_ref": plan.price_ref}
    if made := await _CREATE.scalar(connection, order | values):
        return CreatedRecord(made, order_id)
    found = (
        await connection.execute(
            select(billing_services).where(_service.subscriber_id == subscriber.id, _service.status != "ended")
        )
    ).one()
    if found.plan != plan.name:
        raise RecordConflictError(f"plan.name: subscriber {ref} is charged for plan {found.plan}, not {plan.name}")
    # An abandoned or lost deprovision order may have suspended the service, and this order provisions the line again.
    await _RESTART.all(connection, order | {"service_id": found.id})
    return CreatedRecord(found.id, found.created_by_order)


async def cancel_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Undo `create_service`: delete the service if this order created it, and write the event `cancelled`."""
    return await _apply(_CANCEL, connection, ref, order_id)


async def change_plan(connection: TenantConnection, ref: str, order_id: str, new: Charge) -> tuple[str, Charge]:
    """Charge the line for another plan. Return the service, and its former charge.

    A repeated call changes nothing and writes no event. The undo calls the function with the earlier charge.

    Raises:
        RecordConflictError: no service is charged for the line.
    """
    values = {"ref": ref, "plan": new.plan, "price_ref": new.price_ref, "order_id": order_id}
    before = await _CHANGE_PLAN.one_or_none(connection, values)
    if before is None:
        raise RecordConflictError(f"Nothing is charged for subscriber {ref}. Provision the line again.")
    return str(before.id), Charge(before.plan, before.price_ref)


async def suspend_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Suspend the line's service until an order resumes or ends it. Return False if no service is active."""
    if await _apply(_SUSPEND, connection, ref, order_id):
        return True
    # An earlier attempt of the same order may have suspended the service.
    return bool(await _IS_SUSPENDED_BY.all(connection, {"ref": ref, "order_id": order_id}))


async def resume_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Undo `suspend_service` if this order suspended the service."""
    return await _apply(_RESUME, connection, ref, order_id)


async def resume_suspended_service(connection: TenantConnection, ref: str, order_id: str) -> str | None:
    """Resume the line's service, and return the order that had suspended it; None if no service was suspended."""
    suspended = (
        select(_service.id, _service.suspended_by_order)
        .join(subscribers, subscribers.c.id == _service.subscriber_id)
        .where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None), _service.status == "suspended")
        .with_for_update(of=billing_services)
    )
    if (found := (await connection.execute(suspended)).one_or_none()) is None:
        return None
    await _RESTART.all(connection, {"ref": ref, "order_id": order_id, "service_id": found.id})
    return str(found.suspended_by_order)


async def suspend_service_again(connection: TenantConnection, ref: str, order_id: str, suspended_by: str) -> bool:
    """Undo `resume_suspended_service`: the service is suspended by the order `suspended_by`, as before."""
    order = {"ref": ref, "order_id": order_id, "suspended_by": suspended_by}
    return bool(await _SUSPEND_AGAIN.all(connection, order))


async def end_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """End the line's service, also one that an archived subscriber still has. An ended service is never resumed."""
    return await _apply(_END, connection, ref, order_id)


async def _apply(change: DirectStatement, connection: TenantConnection, ref: str, order_id: str) -> bool:
    return bool(await change.all(connection, {"ref": ref, "order_id": order_id}))
