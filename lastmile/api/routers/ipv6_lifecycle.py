"""The lifecycle of a subscriber's delegated IPv6 prefix. Each change is an order of the subscriber."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from starlette.responses import JSONResponse, Response

from ipam.lifecycle import State
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant, one_tenant_or_all
from lastmile.api.context import ApiContext, Context
from lastmile.api.order_models import DryRun
from lastmile.api.preferences import Preferences, Preferred, plan, wait_for_end
from lastmile.api.problems import ProblemError, Violation
from lastmile.api.routers.ipv6_models import (
    Activate,
    Allocate,
    LifecycleChange,
    PrefixStatus,
    Resume,
    Revoke,
    Statistics,
    Suspend,
    told_by,
)
from lastmile.api.routers.subscribers import SubscriberRef
from lastmile.contract import AnyOrder, ChangeAddressing, ResultStatus, ResumeSubscriber, SuspendSubscriber
from lastmile.contract.addressing import Addressing, IPv4Mode, IPv6Mode
from lastmile.contract.lines import Reference
from lastmile.services.ipv6_lifecycle import (
    DelegatedPrefix,
    find_delegated_prefix,
    find_netbox_pool,
    read_statistics,
)
from lastmile.services.records.subscribers import check_known
from lastmile.subscribers.accepted_orders import AcceptedState

__all__ = ["router"]

router = APIRouter(prefix="/network", tags=["IPv6 lifecycle"], route_class=GuardedRoute)

Writer = Annotated[Principal, requires(Permission.ORDERS_WRITE)]

DEFAULT_SECONDS = 10
"""How long a request waits for its order where it does not say."""
DONE = (ResultStatus.COMPLETED, ResultStatus.DEGRADED)
COA_STEPS = ("switch_addresses", "suspend_radius_account", "resume_radius_account")
DISCONNECT_STEPS = ("suspend_radius_account", "revoke_replaced_addresses")


@dataclass(frozen=True, slots=True)
class _Change:
    """A request to change the prefix of a known subscriber."""

    context: ApiContext
    tenant: str
    subscriber_ref: str
    order_id: str
    requested_by: str
    preferred: Preferences

    @property
    def order_fields(self) -> dict[str, str]:
        return {
            "tenant": self.tenant,
            "subscriber_ref": self.subscriber_ref,
            "order_id": self.order_id,
            "requested_by": self.requested_by,
        }

    async def prefix(self) -> DelegatedPrefix | None:
        """Return the prefix of the subscriber now."""
        return await find_delegated_prefix(self.context.database, self.tenant, self.subscriber_ref)

    async def require(self, states: Collection[State | None], words: str) -> None:
        """Raise the problem `wrong-state` unless the prefix is in one of the states; None: no live prefix.

        The problem is `subscriber-busy` while an order is running: the state will change. The same request again is
        answered with the result of its order, whatever has happened since.
        """
        if await self.context.acceptance.known(self.tenant, self.order_id):
            return
        state = _live_state(await self.prefix())
        if state not in states:
            await self.context.acceptance.check_free(self.tenant, self.subscriber_ref)
            now = "has no delegated prefix" if state is None else f"has a delegated prefix that is {state.upper()}"
            raise ProblemError("wrong-state", f"Subscriber {self.subscriber_ref} {now}. {words}")

    async def order(self, order: AnyOrder) -> Response:
        """Accept the order, wait for it, and answer with the state of the prefix: 200, or 202 while it goes on."""
        if self.preferred.dry_run:
            planned = await plan(self.context, order)
            return JSONResponse(planned.model_dump(mode="json"), headers={"Preference-Applied": "dry-run"})
        await self.context.acceptance.accept(order)
        patience = DEFAULT_SECONDS if self.preferred.wait is None else self.preferred.wait
        record = await wait_for_end(self.context, self.tenant, self.order_id, patience)
        assert record is not None  # an accepted order is never without a record
        result = record.result
        if record.status == AcceptedState.REFUSED or (result is not None and result.status not in DONE):
            raise ProblemError("conflict", f"Order {self.order_id} is {record.status}: {record.reason}")
        found = await self.prefix()
        state = _live_state(found)
        change = LifecycleChange(
            tenant=self.tenant,
            subscriber_id=self.subscriber_ref,
            order_id=self.order_id,
            order_status=record.status,
            state=(found.delegation.state.upper() if found else None),
            prefix=found.delegation.prefix if found and state else None,
            coa_result=told_by(result, COA_STEPS),
            disconnect_result=told_by(result, DISCONNECT_STEPS),
            warnings=result.warnings if result else [],
        )
        headers = {"Preference-Applied": f"wait={patience}"}
        if result is None:
            headers["Location"] = f"/v1/orders/{self.order_id}"
        return JSONResponse(change.model_dump(mode="json", by_alias=True), 200 if result else 202, headers)


async def _change(
    context: Context,
    caller: Writer,
    subscriber_ref: SubscriberRef,
    preferred: Preferred,
    tenant: TenantQuery = None,
    idempotency_key: Annotated[
        Reference | None,
        Header(
            alias="Idempotency-Key",
            description="The id of the order. The same request again is answered with the result of its order.",
        ),
    ] = None,
) -> _Change:
    owner = one_tenant(caller, tenant)
    await check_known(context.database, owner, subscriber_ref)
    order_id = idempotency_key or f"api-{uuid.uuid4()}"
    return _Change(context, owner, subscriber_ref, order_id, caller.subject[:100], preferred)


Change = Annotated[_Change, Depends(_change)]

CHANGED: dict[int | str, dict[str, Any]] = {
    200: {"model": LifecycleChange | DryRun},
    202: {"model": LifecycleChange, "description": "The order is still running: `Location` shows its end."},
    409: {"description": "Another order of the subscriber is running, or the prefix is in another state."},
}


@router.get("/ipv6/stats")
async def get_statistics(
    context: Context, caller: Annotated[Principal, requires(Permission.IPAM_READ)], tenant: TenantQuery = None
) -> Statistics:
    """Count the delegated prefixes by state, and show how full their pools are."""
    return Statistics.of(await read_statistics(context.database, one_tenant_or_all(caller, tenant)))


@router.get("/subscribers/{subscriber_ref}/ipv6/status")
async def get_status(
    context: Context,
    caller: Annotated[Principal, requires(Permission.SUBSCRIBERS_READ)],
    subscriber_ref: SubscriberRef,
    tenant: TenantQuery = None,
) -> PrefixStatus:
    """Show the delegated prefix of a subscriber with its events: the live one, or the last one that was revoked."""
    owner = one_tenant(caller, tenant)
    await check_known(context.database, owner, subscriber_ref)
    if (found := await find_delegated_prefix(context.database, owner, subscriber_ref)) is None:
        raise ProblemError("not-found", f"Subscriber {subscriber_ref} has no delegated IPv6 prefix, and had none.")
    return PrefixStatus.of(found)


@router.post("/subscribers/{subscriber_ref}/ipv6/allocate", responses=CHANGED, response_model=None)
async def allocate(change: Change, body: Allocate) -> Response:
    """Give the line a delegated prefix, by an order `change_addressing`. The order also activates the prefix."""
    await change.require([None], "Only a line without a delegated prefix gets one: send the order `renumber`.")
    pool, vrf = None, body.vrf
    if body.netbox_pool_id is not None:
        found = await find_netbox_pool(change.context.database, change.tenant, body.netbox_pool_id)
        if found is None:
            wrong = Violation(detail="must be the id in NetBox of a pool's prefix", pointer="/netboxPoolId")
            raise ProblemError("invalid", f"No pool has the NetBox prefix {body.netbox_pool_id}.", errors=[wrong])
        pool, vrf = found.name, vrf or found.vrf or None
    addressing = Addressing(
        ipv4_mode=IPv4Mode.UNCHANGED, ipv6_mode=IPv6Mode.PD, ipv6_pd_size=body.prefix_size, ipv6_pool=pool, vrf=vrf
    )
    return await change.order(ChangeAddressing(**change.order_fields, addressing=addressing))


@router.post("/subscribers/{subscriber_ref}/ipv6/activate", responses=CHANGED, response_model=None)
async def activate(change: Change, body: Activate) -> Response:
    """Activate an allocated prefix, by an order `change_addressing` that changes nothing else."""
    words = "Only an allocated prefix can be activated: resume a suspended one, or allocate one."
    await change.require([State.ALLOCATED, State.ACTIVE], words)
    addressing = Addressing(ipv4_mode=IPv4Mode.UNCHANGED, ipv6_mode=IPv6Mode.UNCHANGED)
    return await change.order(ChangeAddressing(**change.order_fields, addressing=addressing))


@router.post("/subscribers/{subscriber_ref}/ipv6/suspend", responses=CHANGED, response_model=None)
async def suspend(change: Change, body: Suspend) -> Response:
    """Suspend the line with its prefix, by an order `suspend`."""
    await change.require([State.ACTIVE], "Only an active prefix can be suspended.")
    return await change.order(SuspendSubscriber(**change.order_fields, reason=body.reason, mode=body.mode))


@router.post("/subscribers/{subscriber_ref}/ipv6/resume", responses=CHANGED, response_model=None)
async def resume(change: Change, body: Resume) -> Response:
    """Put the suspended line with its prefix into service again, by an order `resume`."""
    await change.require([State.SUSPENDED], "Only a suspended prefix can be resumed.")
    return await change.order(ResumeSubscriber(**change.order_fields))


@router.post("/subscribers/{subscriber_ref}/ipv6/revoke", responses=CHANGED, response_model=None)
async def revoke(change: Change, body: Revoke) -> Response:
    """Take IPv6 from the line, by an order `change_addressing`: the sessions end, the prefix goes into quarantine."""
    live = [state for state in State if state is not State.REVOKED]
    await change.require(live, "There is nothing to revoke.")
    addressing = Addressing(ipv4_mode=IPv4Mode.UNCHANGED, enable_ipv6=False)
    return await change.order(ChangeAddressing(**change.order_fields, addressing=addressing))


def _live_state(found: DelegatedPrefix | None) -> State | None:
    """Return the state of the subscriber's live prefix; None without one."""
    if found is None or found.delegation.state is State.REVOKED:
        return None
    return found.delegation.state
