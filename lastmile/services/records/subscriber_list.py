"""The list of subscribers, by pages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, exists, func, or_, select, text, true

from ipam.tables import delegations, pools
from lastmile.db import Database
from lastmile.services.records.pages import Page, PageRequest, beyond, page_of, reading
from lastmile.services.records.subscribers import (
    LineRecord,
    SubscriberStatus,
    SubscriberSummary,
    describe_customer,
)
from lastmile.subscribers.tables import billing_services, customers, network_profiles, subscribers, suspensions

__all__ = ["SubscriberFilter", "list_subscribers"]


@dataclass(frozen=True, slots=True)
class SubscriberFilter:
    """The subscribers to list. Each condition holds; one of the values of a condition is enough."""

    search: str = ""
    """A part of the reference of the subscriber or the customer; with personal data also of name, e-mail or phone."""
    status: Sequence[SubscriberStatus] = ()
    plan: Sequence[str] = ()
    olt: Sequence[str] = ()
    pool: Sequence[str] = ()
    """A pool that the subscriber holds a prefix of."""
    region: Sequence[str] = ()
    """The region of such a pool."""
    created_from: datetime | None = None
    created_until: datetime | None = None


_SUSPENDED = exists().where(
    suspensions.c.tenant_id == subscribers.c.tenant_id,
    suspensions.c.subscriber_ref == subscribers.c.ref,
    suspensions.c.ended_at.is_(None),
)
_STATUS = case(
    (subscribers.c.archived_at.is_not(None), SubscriberStatus.ARCHIVED.value),
    (_SUSPENDED, SubscriberStatus.SUSPENDED.value),
    else_=SubscriberStatus.IN_SERVICE.value,
)
# Conditions on other rows are scalar sub-selects with a limit: the planner then reads the subscribers in the order of
# their index until the page is full, and tries each. A semi-join would read all rows of all subscribers first.
_same_ref = subscribers.alias("same_ref")
_NEWEST_ID = (
    select(_same_ref.c.id)
    .where(_same_ref.c.tenant_id == subscribers.c.tenant_id, _same_ref.c.ref == subscribers.c.ref)
    .order_by(_same_ref.c.created_at.desc(), _same_ref.c.id.desc())
    .limit(1)
    .correlate(subscribers)
    .scalar_subquery()
)
"""A subscriber that comes back after a deprovision has a further row, which is newer than the archived ones."""
_HELD = (
    delegations.c.tenant_id == subscribers.c.tenant_id,
    delegations.c.subscriber_ref == subscribers.c.ref,
    delegations.c.released_at.is_(None),
    pools.c.id == delegations.c.pool_id,
)
_ADDRESS = func.jsonb_build_object(
    *("purpose", delegations.c.purpose, "prefix", func.abbrev(func.inet(delegations.c.prefix))),
    *("pool", pools.c.name, "vrf", pools.c.vrf, "state", delegations.c.state),
)
_ADDRESSES = (
    select(func.coalesce(func.jsonb_agg(_ADDRESS), text("'[]'::jsonb"))).where(*_HELD).correlate(subscribers)
).scalar_subquery()
_LIST = (
    select(
        subscribers.c.tenant_id.label("tenant"),
        subscribers.c.ref.label("subscriber_ref"),
        _STATUS.label("status"),
        subscribers.c.created_at,
        subscribers.c.archived_at,
        billing_services.c.plan,
        customers.c.ref.label("customer_ref"),
        customers.c.name.label("customer_name"),
        customers.c.email.label("customer_email"),
        customers.c.phone.label("customer_phone"),
        _ADDRESSES.label("addresses"),
        network_profiles.c.id.label("profile"),
        *(network_profiles.c[name].label(f"line_{name}") for name in LineRecord.model_fields),
    )
    .join_from(subscribers, customers, customers.c.id == subscribers.c.customer_id)
    .outerjoin(network_profiles, network_profiles.c.subscriber_id == subscribers.c.id)
    .outerjoin(
        billing_services,
        (billing_services.c.subscriber_id == subscribers.c.id) & (billing_services.c.status != "ended"),
    )
    .where(or_(subscribers.c.archived_at.is_(None), subscribers.c.id == _NEWEST_ID))
    .order_by(subscribers.c.tenant_id, subscribers.c.ref)
)


async def list_subscribers(
    database: Database, tenant: str | None, request: PageRequest, wanted: SubscriberFilter, *, personal: bool
) -> Page[SubscriberSummary]:
    """Return a page of the subscribers of the tenant, or of all tenants, by tenant and reference.

    Without `personal`, the subscribers have no names, e-mail addresses and phone numbers.
    """
    query = _LIST.where(*_conditions(wanted, personal=personal)).limit(request.limit + 1)
    if request.after:
        query = query.where(beyond((subscribers.c.tenant_id, subscribers.c.ref), request.after, tenant))
    async with reading(database, tenant) as connection:
        rows = (await connection.execute(query)).all()
    return page_of(
        rows, request, lambda row: _summary(row, personal=personal), lambda row: (row.tenant, row.subscriber_ref)
    )


def _conditions(wanted: SubscriberFilter, *, personal: bool) -> Iterator[ColumnElement[bool]]:
    if wanted.search:
        searched = [subscribers.c.ref, customers.c.ref]
        if personal:
            searched += [customers.c.name, customers.c.email, customers.c.phone]
        yield or_(*(column.icontains(wanted.search, autoescape=True) for column in searched))
    for column, values in (
        (_STATUS, wanted.status),
        (billing_services.c.plan, wanted.plan),
        (network_profiles.c.olt, wanted.olt),
    ):
        if values:
            yield column.in_(values)
    for column, values in ((pools.c.name, wanted.pool), (pools.c.region, wanted.region)):
        if values:
            held = select(true()).where(*_HELD, column.in_(values)).limit(1).correlate(subscribers)
            yield held.scalar_subquery()
    if wanted.created_from:
        yield subscribers.c.created_at >= wanted.created_from
    if wanted.created_until:
        yield subscribers.c.created_at <= wanted.created_until


def _summary(row: Any, *, personal: bool) -> SubscriberSummary:
    values = dict(row._mapping)
    customer = {name: values[f"customer_{name}"] for name in ("ref", "name", "email", "phone")}
    line = {name: values[f"line_{name}"] for name in LineRecord.model_fields} if values["profile"] else None
    return SubscriberSummary.model_validate(
        values | {"customer": describe_customer(customer, personal=personal), "line": line}
    )
