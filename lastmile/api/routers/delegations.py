"""Delegations with their events, and the holders of an address."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from ipam.lifecycle import State
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant_or_all
from lastmile.api.context import Context
from lastmile.api.pagination import PageOf, Paging
from lastmile.api.parameters import AddressText, NetworkText, PoolName
from lastmile.api.problems import ProblemError
from lastmile.audit.history import Tenure
from lastmile.contract.addressing import Purpose
from lastmile.contract.lines import Reference
from lastmile.fields.scalars import Moment
from lastmile.services.history import find_holders
from lastmile.services.records.delegations import (
    DelegationEvent,
    DelegationFilter,
    DelegationRecord,
    find_delegation,
    list_delegation_events,
    list_delegations,
)

__all__ = ["router"]

router = APIRouter(tags=["address space"], route_class=GuardedRoute)

Caller = Annotated[Principal, requires(Permission.IPAM_READ)]
DelegationId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("/v1/delegations")
async def get_delegations(
    context: Context,
    caller: Caller,
    paging: Paging,
    tenant: TenantQuery = None,
    subscriber: Annotated[list[Reference], Query()] = [],  # noqa: B006 -- FastAPI copies it
    state: Annotated[list[State], Query()] = [],  # noqa: B006 -- FastAPI copies it
    purpose: Annotated[list[Purpose], Query()] = [],  # noqa: B006 -- FastAPI copies it
    pool: Annotated[list[PoolName], Query()] = [],  # noqa: B006 -- FastAPI copies it
    within: Annotated[NetworkText | None, Query(description="A network that contains the prefix, or is it.")] = None,
    contains: Annotated[AddressText | None, Query(description="An address of the prefix.")] = None,
    at: Annotated[Moment | None, Query(description="A time at which the subscriber held the prefix.")] = None,
) -> PageOf[DelegationRecord]:
    """List delegations, by tenant, subscriber, purpose and order. A repeated filter means any of its values."""
    wanted = DelegationFilter(subscriber, state, purpose, pool, within, contains, at)
    page = await list_delegations(context.database, one_tenant_or_all(caller, tenant), paging.request, wanted)
    return paging.answer(page)


@router.get("/v1/delegations/{delegation_id}")
async def get_delegation(
    context: Context, caller: Caller, delegation_id: DelegationId, tenant: TenantQuery = None
) -> DelegationRecord:
    """Read a delegation."""
    found = await find_delegation(context.database, one_tenant_or_all(caller, tenant), delegation_id)
    if found is None:
        raise _unknown(delegation_id)
    return found


@router.get("/v1/delegations/{delegation_id}/events")
async def get_delegation_events(
    context: Context, caller: Caller, paging: Paging, delegation_id: DelegationId, tenant: TenantQuery = None
) -> PageOf[DelegationEvent]:
    """List the transitions of a delegation, oldest first. They are kept longer than the delegation."""
    owner = one_tenant_or_all(caller, tenant)
    page = await list_delegation_events(context.database, owner, delegation_id, paging.request)
    if page is None:
        raise _unknown(delegation_id)
    return paging.answer(page)


@router.get("/v1/holders")
async def get_holders(
    context: Context,
    caller: Annotated[Principal, requires(Permission.AUDIT_READ)],
    address: Annotated[AddressText, Query(description="An address.")],
    at: Annotated[Moment | None, Query(description="The time to look at. Without it: every holder there was.")] = None,
    tenant: TenantQuery = None,
) -> PageOf[Tenure]:
    """List the subscribers that held the prefix of an address, oldest first. All of them are on one page."""
    found = await find_holders(context.database, address, tenant=one_tenant_or_all(caller, tenant), at=at)
    return PageOf(results=found, next=None)


def _unknown(delegation_id: int) -> ProblemError:
    return ProblemError("not-found", f"There is no delegation {delegation_id}.")
