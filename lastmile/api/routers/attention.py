"""What waits for an operator: the parked orders, and one decision for many of them."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant, one_tenant_or_all
from lastmile.api.context import Context
from lastmile.api.problems import ProblemError, Violation
from lastmile.client.api.records import ApiParked
from lastmile.client.decisions import decide_all
from lastmile.client.parked_runs import ParkedRun
from lastmile.contract import Decision
from lastmile.contract.orders import Reason

__all__ = ["router"]

router = APIRouter(prefix="/v1/attention", tags=["operations"], route_class=GuardedRoute)

Operator = Annotated[Principal, requires(Permission.OPS_STEER)]
StepName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]


class WaitingRun(ApiParked):
    """A parked order, and where it is."""

    href: str

    @classmethod
    def of(cls, run: ParkedRun) -> "WaitingRun":
        shown = {name: value for name, value in asdict(run).items() if name in cls.model_fields}
        return cls(**shown | {"parked": run.parked}, href=f"/v1/orders/{run.order_id}")


class ManyDecisions(BaseModel):
    """One decision for all parked orders, or for those that are parked at one step."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["retry", "skip", "abandon"]
    why: Reason
    step: StepName | None = None


class DecidedOrder(BaseModel):
    """A parked order after the decision."""

    tenant: str
    order_id: str
    done: str
    problem: str


class Waiting(BaseModel):
    """The parked orders, the longest waiting first."""

    results: list[WaitingRun]


class DecidedOrders(BaseModel):
    """What became of each parked order."""

    results: list[DecidedOrder]


@router.get("")
async def get_attention(
    context: Context,
    caller: Operator,
    tenant: TenantQuery = None,
    step: Annotated[StepName | None, Query(description="Only orders that are parked at this step.")] = None,
) -> Waiting:
    """List the orders that wait for an operator, the longest waiting first."""
    runs = await context.temporal.parked_runs(one_tenant_or_all(caller, tenant), step)
    return Waiting(results=[WaitingRun.of(run) for run in runs])


@router.post("/decisions")
async def decide_many(
    context: Context, caller: Operator, body: ManyDecisions, tenant: TenantQuery = None
) -> DecidedOrders:
    """Decide about all parked orders of a tenant, or those at one step. `skip` and `abandon` need the step."""
    if body.decision != "retry" and body.step is None:
        missing = Violation(detail=f"is missing: {body.decision} needs it", pointer="/step")
        raise ProblemError("invalid", "Name the step that the decision is for.", errors=[missing])
    runs = await context.temporal.parked_runs(one_tenant(caller, tenant), body.step)
    decision = Decision(by=caller.subject[:100], why=body.why, step=body.step)
    return DecidedOrders(
        results=[
            DecidedOrder(
                tenant=decided.run.tenant,
                order_id=decided.run.order_id,
                done=decided.answer,
                problem=decided.problem,
            )
            async for decided in decide_all(context.temporal, runs, body.decision, decision)
        ]
    )
