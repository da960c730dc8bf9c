"""Subscribers: the list, one subscriber, and its history, delegations and sessions."""

from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from ipam.lifecycle import State
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant, one_tenant_or_all
from lastmile.api.context import Context
from lastmile.api.idempotency import Answer, KeyOfRequest, answer_once
from lastmile.api.pagination import PageOf, Paging
from lastmile.api.parameters import FilterText, PoolName
from lastmile.api.preconditions import NOT_MODIFIED, IfNoneMatch, RequiredIfMatch, entity_tag
from lastmile.audit.history import HistoryEntry
from lastmile.contract.addressing import Purpose
from lastmile.contract.lines import Email, Name, Phone, Reference
from lastmile.fields.scalars import Moment
from lastmile.services.customer_changes import change_customer
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
    read_subscriber,
)

__all__ = ["router"]

router = APIRouter(tags=["subscribers"], route_class=GuardedRoute)

Caller = Annotated[Principal, requires(Permission.SUBSCRIBERS_READ)]
Editor = Annotated[Principal, requires(Permission.SUBSCRIBERS_PERSONAL)]
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


@router.get("/v1/subscribers/{subscriber_ref}", response_model=Subscriber, responses=NOT_MODIFIED)
async def get_subscriber(
    context: Context,
    caller: Caller,
    subscriber_ref: SubscriberRef,
    if_none_match: IfNoneMatch,
    tenant: TenantQuery = None,
) -> Subscriber | Response:
    """Read a subscriber with its records, or the last one archived."""
    return if_none_match.answer(
        await find_subscriber(context.database, one_tenant(caller, tenant), subscriber_ref, personal=_personal(caller))
    )


class CustomerChange(BaseModel):
    """The new values of the customer."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Name | SkipJsonSchema[None] = None
    email: Email | None = Field(None, description="null: delete the address.")
    phone: Phone | None = Field(None, description="null: delete the number.")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("needs a name, an email or a phone")
        if "name" in self.model_fields_set and self.name is None:
            raise ValueError("has a name that is null: only an e-mail address and a phone number can be deleted")
        return self


class SubscriberChange(BaseModel):
    """The change of a subscriber. What the body leaves out stays as it is (RFC 7396)."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    customer: CustomerChange


@router.patch(
    "/v1/subscribers/{subscriber_ref}",
    responses={
        409: {"description": "An order that changes the customer is open."},
        412: {"description": "The subscriber has changed since the ETag of `If-Match`."},
        428: {"description": "The request has no `If-Match`."},
    },
)
async def change_subscriber(
    context: Context,
    caller: Editor,
    subscriber_ref: SubscriberRef,
    body: SubscriberChange,
    if_match: RequiredIfMatch,
    key: KeyOfRequest,
    request: Request,
    response: Response,
    tenant: TenantQuery = None,
) -> Subscriber:
    """Correct the name, e-mail address or phone number of the customer, for all lines of the customer.

    The answer is the subscriber as it is now, also for a request that is sent again with its Idempotency-Key.
    """
    owner = one_tenant(caller, tenant)
    changes = body.customer.model_dump(exclude_unset=True)
    async with context.database.tenant(
        owner, actor=caller.subject, order_id=request.state.request_id, subscriber_ref=subscriber_ref
    ) as connection:

        async def effect() -> Answer:
            await change_customer(connection, owner, subscriber_ref, changes, if_match.check)
            return Answer(200, b"")  # personal data is not stored with the key

        answer = await answer_once(connection, caller, owner, key, effect)
        changed = await read_subscriber(connection, owner, subscriber_ref, personal=True)
    response.headers.update(answer.headers | {"ETag": entity_tag(changed)})
    return changed


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
