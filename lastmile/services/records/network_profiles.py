"""Network profiles: where and how the line of each subscriber in service is attached."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.services.records.pages import Page, PageRequest, beyond, page_of, reading
from lastmile.services.records.subscribers import LineRecord
from lastmile.subscribers.tables import network_profiles, subscribers

__all__ = ["NetworkProfile", "NetworkProfileFilter", "find_network_profile", "list_network_profiles"]


class NetworkProfile(LineRecord):
    """The line of a subscriber in service."""

    tenant: str
    subscriber_ref: str
    created_by_order: str
    """The order that provisioned the line. `replace_device` and `relocate` orders change it."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NetworkProfileFilter:
    """The profiles to list. Each condition holds; one of the values of a condition is enough."""

    olt: Sequence[str] = ()
    pon_port: Sequence[str] = ()
    onu_serial: Sequence[str] = ()
    cpe_mac: Sequence[str] = ()
    circuit_id: Sequence[str] = ()


_PROFILES = (
    select(
        subscribers.c.tenant_id.label("tenant"),
        subscribers.c.ref.label("subscriber_ref"),
        *(network_profiles.c[name] for name in Line.model_fields if name != "cpe_mac"),
        func.text(network_profiles.c.cpe_mac).label("cpe_mac"),
        network_profiles.c.created_by_order,
        network_profiles.c.created_at,
    )
    .join_from(network_profiles, subscribers, subscribers.c.id == network_profiles.c.subscriber_id)
    .where(subscribers.c.archived_at.is_(None))
)


async def find_network_profile(database: Database, tenant: str, subscriber_ref: str) -> NetworkProfile | None:
    """Return the profile of the subscriber; None where no line of the subscriber is in service."""
    async with database.tenant(tenant) as connection:
        row = (await connection.execute(_PROFILES.where(subscribers.c.ref == subscriber_ref))).one_or_none()
    return None if row is None else _record(row)


async def list_network_profiles(
    database: Database, tenant: str | None, request: PageRequest, wanted: NetworkProfileFilter
) -> Page[NetworkProfile]:
    """Return a page of the profiles of the tenant, or of all tenants, by tenant and subscriber."""
    key = (subscribers.c.tenant_id, subscribers.c.ref)
    query = _PROFILES.order_by(*key).limit(request.limit + 1)
    for name in ("olt", "pon_port", "onu_serial", "cpe_mac", "circuit_id"):
        if values := getattr(wanted, name):
            query = query.where(network_profiles.c[name].in_(values))
    if request.after:
        query = query.where(beyond(key, request.after, tenant))
    async with reading(database, tenant) as connection:
        rows = (await connection.execute(query)).all()
    return page_of(rows, request, _record, lambda row: (row.tenant, row.subscriber_ref))


def _record(row: Any) -> NetworkProfile:
    return NetworkProfile.model_validate(dict(row._mapping))
