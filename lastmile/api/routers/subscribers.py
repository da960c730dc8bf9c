"""Subscribers: the list, one subscriber, and its history, delegations and sessions."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from ipam.lifecycle import State
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant, one_tenant_or_all
from lastmile.api.context import Context
from lastmile.api.pagination import PageOf, Paging
from lastmile.api.parameters import FilterText, PoolName
from lastmile.audit.history import HistoryEntry
from lastmile.contract.addressing import Purpose
from lastmile.contract.lines import Reference
from lastmile.fields.scalars import Moment
from lastmile.services.history import list_history
from lastmile.services.records.delegations import DelegationFilter, DelegationRecord, list_delegations
from lastmile.services.records.sessions import SessionRecord, list_sessions
from lastmile.services.records.subscriber_list import SubscriberFilter, list_subscribers
from lastmile.services.records.subscribers import (
    Subscriber,
    SubscriberStatus,
    SubscriberSummary,
    check_known,
    find_subscriber,
)

__all__ = ["router"]

router = APIRouter(tags=["subscribers"], route_class=GuardedRoute)

Caller = Annotated[Principal, requires(Permission.SUBSCRIBERS_READ)]
SubscriberRef = Annotated[Reference, Path(description="The reference of the subscriber in orders.")]


@dataclass(frozen=True, slots=True)
class _Reader:
    """A caller that reads records of a known subscriber."""

    tenant: str
    personal: bool
    """Whether the caller may read personal data."""


async def _reader(
    context: Context, caller: Caller, subscriber_ref: SubscriberRef, tenant: TenantQuery = None
) -> _Reader:
    owner = one_tenant(caller, tenant)
    await check_known(context.database, owner, subscriber_ref)
    return _Reader(owner, _personal(caller))


Reader = Annotated[_Reader, Depends(_reader)]
"""The parameter of a route below a subscriber, which can be archived."""


@router.get("/v1/subscribers")
async def get_subscribers(
    context: Context,
    caller: Caller,
    paging: Paging,
    tenant: TenantQuery = None,
    q: Annotated[
        FilterText | None,
        Query(
            description="A part of the reference of the subscriber or the customer; with the permission "
            "`subscribers:personal` also of the name, e-mail address or phone number."
        ),
    ] = None,
    status: Annotated[list[SubscriberStatus], Query()] = [],  # noqa: B006 -- FastAPI copies it
    plan: Annotated[list[FilterText], Query()] = [],  # noqa: B006 -- FastAPI copies it
    olt: Annotated[list[FilterText], Query()] = [],  # noqa: B006 -- FastAPI copies it
    pool: Annotated[list[PoolName], Query(description="A pool that the subscriber holds a prefix of.")] = [],  # noqa: B006 -- FastAPI copies it
    region: Annotated[list[FilterText], Query(description="The region of such a pool.")] = [],  # noqa: B006 -- FastAPI copies it
    created_at__gte: Moment | None = None,
    created_at__lte: Moment | None = None,
) -> PageOf[SubscriberSummary]:
    """List subscribers, by tenant and reference. A repeated filter means any of its values."""
    wanted = SubscriberFilter(q or "", status, plan, olt, pool, region, created_at__gte, created_at__lte)
    page = await list_subscribers(
        context.database, one_tenant_or_all(caller, tenant), paging.request, wanted, personal=_personal(caller)
    )
    return paging.answer(page)


@router.get("/v1/subscribers/{subscriber_ref}")
async def get_subscriber(
    context: Context, caller: Caller, subscriber_ref: SubscriberRef, tenant: TenantQuery = None
) -> Subscriber:
    """Read a subscriber with its records, or the last one archived."""
    return await find_subscriber(
        context.database, one_tenant(caller, tenant), subscriber_ref, personal=_personal(caller)
    )


@router.get("/v1/subscribers/{subscriber_ref}/history")
async def get_subscriber_history(
    context: Context,
    reader: Reader,
    paging: Paging,
    subscriber_ref: SubscriberRef,
    at__gte: Moment | None = None,
) -> PageOf[HistoryEntry]:
    """List the changes of the subscriber's records, oldest first, with the order and the actor of each."""
    page = await list_history(
        context.database, reader.tenant, subscriber_ref, paging.request, since=at__gte, personal=reader.personal
    )
    return paging.answer(page)


@router.get("/v1/subscribers/{subscriber_ref}/delegations")
async def get_subscriber_delegations(
    context: Context,
    reader: Reader,
    paging: Paging,
    subscriber_ref: SubscriberRef,
    state: Annotated[list[State], Query()] = [],  # noqa: B006 -- FastAPI copies it
    purpose: Annotated[list[Purpose], Query()] = [],  # noqa: B006 -- FastAPI copies it
) -> PageOf[DelegationRecord]:
    """List the prefixes that the subscriber holds or held."""
    wanted = DelegationFilter(subscriber=[subscriber_ref], state=state, purpose=purpose)
    return paging.answer(await list_delegations(context.database, reader.tenant, paging.request, wanted))


@router.get("/v1/subscribers/{subscriber_ref}/sessions")
async def get_subscriber_sessions(
    context: Context,
    reader: Reader,
    paging: Paging,
    subscriber_ref: SubscriberRef,
    online: Annotated[bool | None, Query(description="true: open sessions only; false: ended ones only.")] = None,
) -> PageOf[SessionRecord]:
    """List the sessions of the subscriber's user name, newest first."""
    page = await list_sessions(context.database, reader.tenant, subscriber_ref, paging.request, online=online)
    return paging.answer(page)


def _personal(caller: Principal) -> bool:
    return Permission.SUBSCRIBERS_PERSONAL in caller.permissions
