"""In which fields an order differs from the records of a line that is in service."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import and_, select

from lastmile.contract.lines import Customer, Line, ServicePlan
from lastmile.db import TenantConnection
from lastmile.subscribers.tables import billing_services, customers, network_profiles, subscribers

__all__ = ["customer_fields", "record_differences"]

_LINE = [network_profiles.c[field].label(f"line_{field}") for field in Line.model_fields]


async def record_differences(
    connection: TenantConnection, ref: str, customer: Customer, plan: ServicePlan, line: Line
) -> list[str]:
    """The differences between the order and the subscriber's records, in words, each with the order's field.

    A record that is missing is no difference: the order makes it. Values of the customer are personal data, and are
    not told.
    """
    row = (
        await connection.execute(
            select(
                customers.c.ref.label("customer_ref"),
                customers.c.name,
                customers.c.email,
                customers.c.phone,
                network_profiles.c.id.label("profile"),
                *_LINE,
                billing_services.c.plan,
                billing_services.c.price_ref,
            )
            .select_from(subscribers)
            .join(customers, customers.c.id == subscribers.c.customer_id)
            .outerjoin(network_profiles, network_profiles.c.subscriber_id == subscribers.c.id)
            .outerjoin(
                billing_services,
                and_(billing_services.c.subscriber_id == subscribers.c.id, billing_services.c.status != "ended"),
            )
            .where(subscribers.c.ref == ref, subscribers.c.archived_at.is_(None))
        )
    ).one_or_none()
    return [] if row is None else list(_differences(row, customer, plan, line))


def customer_fields(record: Any, customer: Customer) -> list[str]:
    """The fields in which the customer's record is another than the order says. One left out says nothing."""
    said = customer.model_dump(exclude={"ref"}, exclude_none=True)
    return [field for field, value in said.items() if getattr(record, field) != value]


def _differences(row: Any, customer: Customer, plan: ServicePlan, line: Line) -> Iterator[str]:
    if row.customer_ref != customer.ref:
        yield f"customer.ref: the line belongs to customer {row.customer_ref}, the order says {customer.ref}"
    else:
        for field in customer_fields(row, customer):
            yield f"customer.{field}: the record of customer {customer.ref} has another"
    for field, value in line.model_dump().items():
        if row.profile is not None and getattr(row, f"line_{field}") != value:
            yield _has(f"line.{field}", getattr(row, f"line_{field}"), value)
    if row.plan is not None:
        for field, has, value in (("name", row.plan, plan.name), ("price_ref", row.price_ref, plan.price_ref)):
            if has != value:
                yield _has(f"plan.{field}", has, value)


def _has(field: str, has: object, asked: object) -> str:
    return f"{field}: the line has {_shown(has)}, the order says {_shown(asked)}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
