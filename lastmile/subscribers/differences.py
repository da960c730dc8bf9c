"""The fields in which an order differs from the records of a line in service."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import and_, select

from lastmile.contract.lines import Customer, Line, ServicePlan
from lastmile.db import TenantConnection
from lastmile.subscribers.tables import billing_services, customers, network_profiles, subscribers

__all__ = ["differing_customer_fields", "find_record_differences"]

_CUSTOMER = [customers.c[field] for field in Customer.model_fields if field != "ref"]
_LINE = [network_profiles.c[field].label(f"line_{field}") for field in Line.model_fields]


async def find_record_differences(
    connection: TenantConnection, ref: str, customer: Customer, plan: ServicePlan, line: Line
) -> list[str]:
    """Return the differences between the order and the subscriber's records, each as a text with the order's field.

    A missing record is not a difference, since the order creates the record. The texts contain no value of the
    customer: those are personal data.
    """
    row = (
        await connection.execute(
            select(
                customers.c.ref.label("customer_ref"),
                *_CUSTOMER,
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


def differing_customer_fields(record: Any, customer: Customer) -> list[str]:
    """Return the fields whose value in the order differs from the customer's record. Omitted fields do not differ."""
    ordered = customer.model_dump(exclude={"ref"}, exclude_none=True)
    return [field for field, value in ordered.items() if getattr(record, field) != value]


def _differences(row: Any, customer: Customer, plan: ServicePlan, line: Line) -> Iterator[str]:
    if row.customer_ref != customer.ref:
        yield f"customer.ref: the line belongs to customer {row.customer_ref}, but the order names {customer.ref}"
    else:
        for field in differing_customer_fields(row, customer):
            yield f"customer.{field}: the record of customer {customer.ref} has another value"
    for field, value in line.model_dump().items():
        if row.profile is not None and getattr(row, f"line_{field}") != value:
            yield _difference(f"line.{field}", getattr(row, f"line_{field}"), value)
    if row.plan is not None:
        for field, actual, value in (("name", row.plan, plan.name), ("price_ref", row.price_ref, plan.price_ref)):
            if actual != value:
                yield _difference(f"plan.{field}", actual, value)


def _difference(field: str, actual: object, ordered: object) -> str:
    return f"{field}: the line has {_format(actual)}, but the order has {_format(ordered)}"


def _format(value: object) -> str:
    return "none" if value is None else str(value)
