"""Network profiles of lines: one by its subscriber, and all by what they are attached to."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant, one_tenant_or_all
from lastmile.api.context import Context
from lastmile.api.pagination import PageOf, Paging
from lastmile.api.parameters import FilterText
from lastmile.api.preconditions import NOT_MODIFIED, IfNoneMatch
from lastmile.api.problems import ProblemError
from lastmile.api.routers.subscribers import SubscriberRef
from lastmile.fields.devices import MacAddress, OnuSerial
from lastmile.services.records.network_profiles import (
    NetworkProfile,
    NetworkProfileFilter,
    find_network_profile,
    list_network_profiles,
)

__all__ = ["router"]

router = APIRouter(tags=["subscribers"], route_class=GuardedRoute)

Caller = Annotated[Principal, requires(Permission.SUBSCRIBERS_READ)]


@router.get("/v1/network-profiles")
async def get_network_profiles(
    context: Context,
    caller: Caller,
    paging: Paging,
    tenant: TenantQuery = None,
    olt: Annotated[list[FilterText], Query()] = [],  # noqa: B006 -- FastAPI copies it
    pon_port: Annotated[list[FilterText], Query()] = [],  # noqa: B006 -- FastAPI copies it
    onu_serial: Annotated[list[OnuSerial], Query(description="In any notation.")] = [],  # noqa: B006 -- FastAPI copies it
    cpe_mac: Annotated[list[MacAddress], Query(description="In any notation.")] = [],  # noqa: B006 -- FastAPI copies it
    circuit_id: Annotated[list[FilterText], Query()] = [],  # noqa: B006 -- FastAPI copies it
) -> PageOf[NetworkProfile]:
    """List the lines in service, by tenant and subscriber. A repeated filter means any of its values."""
    wanted = NetworkProfileFilter(olt, pon_port, onu_serial, cpe_mac, circuit_id)
    page = await list_network_profiles(context.database, one_tenant_or_all(caller, tenant), paging.request, wanted)
    return paging.answer(page)


@router.get("/v1/subscribers/{subscriber_ref}/network-profile", response_model=NetworkProfile, responses=NOT_MODIFIED)
async def get_network_profile(
    context: Context,
    caller: Caller,
    subscriber_ref: SubscriberRef,
    if_none_match: IfNoneMatch,
    tenant: TenantQuery = None,
) -> NetworkProfile | Response:
    """Read where and how the line of a subscriber in service is attached."""
    found = await find_network_profile(context.database, one_tenant(caller, tenant), subscriber_ref)
    if found is None:
        raise ProblemError("unknown-subscriber", f"Subscriber {subscriber_ref} has no line in service.")
    return if_none_match.answer(found)
