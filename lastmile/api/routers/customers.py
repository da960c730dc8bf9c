"""Customers: forget the personal data of a former one."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant
from lastmile.api.context import Context
from lastmile.client.personal_data import forget_customer
from lastmile.contract.lines import Reference

__all__ = ["router"]

router = APIRouter(prefix="/v1/customers", tags=["subscribers"], route_class=GuardedRoute)

Caller = Annotated[Principal, requires(Permission.SUBSCRIBERS_PERSONAL)]


class Forgotten(BaseModel):
    """A customer without personal data."""

    customer: str
    subscribers: list[str] = Field(description="The subscribers that were once the customer's. The references stay.")
    runs: int = Field(description="The ended runs whose histories Temporal deletes, because they contain the data.")


@router.delete(
    "/{customer_ref}/personal-data",
    responses={409: {"description": "The customer has lines in service, or orders that have not ended."}},
)
async def delete_personal_data(
    context: Context,
    caller: Caller,
    customer_ref: Annotated[Reference, Path(description="The reference of the customer in orders.")],
    tenant: TenantQuery = None,
) -> Forgotten:
    """Delete the name, e-mail address and phone number of a customer without lines, in the history too.

    The same request again does what the first has left, for example while Temporal was away.
    """
    done = await forget_customer(
        context.database, context.temporal.client, one_tenant(caller, tenant), customer_ref, actor=caller.subject
    )
    return Forgotten(customer=done.ref, subscribers=done.subscribers, runs=done.runs)
