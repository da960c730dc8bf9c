"""Billing services, and the billing events that a billing system reads.

A change and its event are in one transaction. Events are never changed or deleted.
"""

from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from lastmile.contract.lines import ServicePlan
from lastmile.db import TenantConnection
from lastmile.subscribers.errors import RecordConflictError
from lastmile.subscribers.records import CreatedRecord
from lastmile.subscribers.tables import billing_events, billing_services, subscribers

__all__ = [
    "cancel_service",
    "create_service",
    "end_service",
    "resume_service",
    "suspend_service",
]


async def create_service(
    connection: TenantConnection, tenant: str, order_id: str, subscriber: CreatedRecord, ref: str, plan: ServicePlan
) -> CreatedRecord:
    """Start charging for the line.

    Raises:
        RecordConflictError: the line is charged for another plan.
    """
    values = {
        "tenant_id": tenant,
        "subscriber_id": subscriber.id,
        "plan": plan.name,
        "price_ref": plan.price_ref,
        "status": "active",
        "created_by_order": order_id,
    }
    table = billing_services
    made = (
        await connection.execute(insert(table).values(values).on_conflict_do_nothing().returning(table))
    ).one_or_none()
    if made:
        await _record(connection, made, ref, "started", order_id)
        return CreatedRecord(made.id, made.created_by_order)
    found = (
        await connection.execute(select(table).where(table.c.subscriber_id == subscriber.id, table.c.status != "ended"))
    ).one()
    if found.plan != plan.name:
        raise RecordConflictError(f"plan.name: subscriber {ref} is charged for plan {found.plan}, not {plan.name}")
    # An abandoned or lost deprovision order may have suspended the service, and this order provisions the line again.
    resumed = (
        update(table)
        .where(table.c.id == found.id, table.c.status == "suspended")
        .values(status="active", suspended_by_order=None)
        .returning(table)
    )
    await _apply(connection, resumed, ref, "resumed", order_id)
    return CreatedRecord(found.id, found.created_by_order)


async def cancel_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Undo `create_service`: delete the service if this order created it, and write the event `cancelled`."""
    statement = (
        delete(billing_services)
        .where(_current(ref), billing_services.c.created_by_order == order_id)
        .returning(billing_services)
    )
    return await _apply(connection, statement, ref, "cancelled", order_id)


async def suspend_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Suspend the line's service until an order resumes or ends it. Return False if no service is active."""
    by_order = select(billing_services.c.id).where(_current(ref), billing_services.c.suspended_by_order == order_id)
    statement = (
        update(billing_services)
        .where(_current(ref), billing_services.c.status == "active")
        .values(status="suspended", suspended_by_order=order_id)
        .returning(billing_services)
    )
    if await _apply(connection, statement, ref, "suspended", order_id):
        return True
    return await connection.scalar(by_order) is not None  # an earlier attempt of the same order suspended the service


async def resume_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """Undo `suspend_service` if this order suspended the service."""
    statement = (
        update(billing_services)
        .where(
            _current(ref),
            billing_services.c.status == "suspended",
            billing_services.c.suspended_by_order == order_id,
        )
        .values(status="active", suspended_by_order=None)
        .returning(billing_services)
    )
    return await _apply(connection, statement, ref, "resumed", order_id)


async def end_service(connection: TenantConnection, ref: str, order_id: str) -> bool:
    """End the line's service, also one that an archived subscriber still has. An ended service is never resumed."""
    records = select(subscribers.c.id).where(subscribers.c.ref == ref)
    statement = (
        update(billing_services)
        .where(billing_services.c.subscriber_id.in_(records), billing_services.c.status != "ended")
        .values(status="ended", ended_at=func.now())
        .returning(billing_services)
    )
    return await _apply(connection, statement, ref, "ended", order_id)


def _current(ref: str) -> Any:
    current = select(subscribers.c.id).where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None))
    return billing_services.c.subscriber_id.in_(current)


async def _apply(connection: TenantConnection, statement: Any, ref: str, event: str, order_id: str) -> bool:
    services = (await connection.execute(statement)).all()
    for service in services:
        await _record(connection, service, ref, event, order_id)
    return bool(services)


async def _record(connection: TenantConnection, service: Row[Any], ref: str, event: str, order_id: str) -> None:
    await connection.execute(
        insert(billing_events).values(
            tenant_id=service.tenant_id,
            service_id=service.id,
            subscriber_ref=ref,
            event=event,
            plan=service.plan,
            price_ref=service.price_ref,
            order_id=order_id,
        )
    )
