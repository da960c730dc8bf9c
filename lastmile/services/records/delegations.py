"""Delegations and their events, by pages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, cast, func, or_, select
from sqlalchemy.dialects.postgresql import INET

from ipam.lifecycle import State
from ipam.tables import delegation_events, delegations, pools
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.services.records.pages import Page, PageRequest, beyond, page_of, reading

__all__ = [
    "DelegationEvent",
    "DelegationFilter",
    "DelegationRecord",
    "find_delegation",
    "list_delegation_events",
    "list_delegations",
]


class DelegationRecord(BaseModel):
    """A subscriber's hold on a prefix."""

    id: int
    tenant: str
    subscriber_ref: str
    purpose: Purpose
    prefix: str | None
    """None: NetBox has not chosen yet, or the allocation failed."""
    vrf: str
    """Empty: the default VRF."""
    pool: str
    region: str | None
    state: State
    state_since: datetime
    created_by_order: str
    created_at: datetime
    released_at: datetime | None
    """When the prefix went into quarantine."""
    disconnect_confirmed: bool | None
    """Whether a NAS has confirmed that the sessions ended; None: not revoked yet."""
    replaced_by_order: str | None
    replaced_until: datetime | None
    """The end of the overlap, in which the subscriber has both prefixes."""


class DelegationEvent(BaseModel):
    """A transition of a delegation."""

    id: int
    at: datetime
    subscriber_ref: str
    prefix: str | None
    vrf: str | None
    from_state: str
    to_state: str
    order_id: str
    """The order or the maintenance run that made the transition."""
    reason: str


@dataclass(frozen=True, slots=True)
class DelegationFilter:
    """The delegations to list. Each condition holds; one of the values of a condition is enough."""

    subscriber: Sequence[str] = ()
    state: Sequence[State] = ()
    purpose: Sequence[Purpose] = ()
    pool: Sequence[str] = ()
    within: IPv4Network | IPv6Network | None = None
    """A network that contains the prefix, or is the prefix."""
    contains: IPv4Address | IPv6Address | None = None
    """An address of the prefix."""
    at: datetime | None = None
    """A time at which the subscriber held the prefix. The clean-up deletes delegations long after their end."""


_PREFIX = func.abbrev(cast(delegations.c.prefix, INET))
_RECORDS = select(
    *(delegations.c[name] for name in DelegationRecord.model_fields if name in delegations.c and name != "prefix"),
    delegations.c.tenant_id.label("tenant"),
    delegations.c.allocation_key,
    _PREFIX.label("prefix"),
    pools.c.name.label("pool"),
    pools.c.vrf,
    pools.c.region,
).join(pools, pools.c.id == delegations.c.pool_id)


async def list_delegations(
    database: Database, tenant: str | None, request: PageRequest, wanted: DelegationFilter
) -> Page[DelegationRecord]:
    """Return a page of the delegations of the tenant, or of all tenants, by tenant, subscriber, purpose and order."""
    # The order of a unique index, of which the tenant is the first column.
    key = (delegations.c.tenant_id, delegations.c.allocation_key)
    query = _RECORDS.where(*_conditions(wanted)).order_by(*key).limit(request.limit + 1)
    if request.after:
        query = query.where(beyond(key, request.after, tenant))
    if wanted.contains:
        query = query.where(delegations.c.id.in_(await _find_containing(database, wanted.contains)))
    async with reading(database, tenant) as connection:
        rows = (await connection.execute(query)).all()
    return page_of(rows, request, _record, lambda row: (row.tenant, row.allocation_key))


async def find_delegation(database: Database, tenant: str | None, delegation_id: int) -> DelegationRecord | None:
    """Return the delegation of the tenant, or of any tenant; None if there is none."""
    async with reading(database, tenant) as connection:
        row = (await connection.execute(_RECORDS.where(delegations.c.id == delegation_id))).one_or_none()
    return None if row is None else _record(row)


async def list_delegation_events(
    database: Database, tenant: str | None, delegation_id: int, request: PageRequest
) -> Page[DelegationEvent] | None:
    """Return a page of the events of the delegation, oldest first; None if there is, and was, no such delegation.

    Events outlive their delegation.
    """
    events = delegation_events.c
    fields = (events[name] for name in DelegationEvent.model_fields if name != "prefix")
    mine = select(*fields, func.abbrev(cast(events.prefix, INET)).label("prefix")).where(
        events.delegation_id == delegation_id
    )
    query = mine.order_by(events.id).limit(request.limit + 1)
    if request.after:
        query = query.where(events.id > request.after[0])
    async with reading(database, tenant) as connection:
        rows = (await connection.execute(query)).all()
        if not rows and not request.after:
            known = select(delegations.c.id).where(delegations.c.id == delegation_id)
            if await connection.scalar(known) is None:
                return None
    return page_of(rows, request, lambda row: DelegationEvent.model_validate(dict(row._mapping)), lambda row: (row.id,))


async def _find_containing(database: Database, address: IPv4Address | IPv6Address) -> list[int]:
    """Return the delegations of all tenants whose prefix contains the address. Only the index by prefix finds them.

    Row-level security hides that index from a tenant's query: its operators are not leakproof.
    """
    containing = delegations.c.prefix.op(">>=")(cast(str(address), INET))
    async with database.platform() as connection:
        return list(await connection.scalars(select(delegations.c.id).where(containing)))


def _conditions(wanted: DelegationFilter) -> Iterator[ColumnElement[bool]]:
    for column, values in (
        (delegations.c.subscriber_ref, wanted.subscriber),
        (delegations.c.state, wanted.state),
        (delegations.c.purpose, wanted.purpose),
        (pools.c.name, wanted.pool),
    ):
        if values:
            yield column.in_(values)
    if wanted.within:
        yield delegations.c.prefix.op("<<=")(cast(str(wanted.within), INET))
    if wanted.at:
        yield delegations.c.created_at <= wanted.at
        yield or_(delegations.c.state != State.REVOKED, delegations.c.state_since > wanted.at)


def _record(row: Any) -> DelegationRecord:
    return DelegationRecord.model_validate(dict(row._mapping))
