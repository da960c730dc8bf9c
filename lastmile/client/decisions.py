"""Decisions of operators on parked orders: one order, or all orders of a list."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Literal

from lastmile.client.errors import NotRunningError, RunStuckError
from lastmile.client.operator import Operator
from lastmile.client.parked_runs import ParkedRun
from lastmile.contract import Decision
from lastmile.errors import UnavailableError

__all__ = ["UPDATES", "DecidedRun", "DecisionAction", "decide", "decide_all"]

DecisionAction = Literal["retry", "skip", "abandon"]

UPDATES: dict[DecisionAction, str] = {"retry": "retry_step", "skip": "skip_step", "abandon": "abandon"}
"""The workflow's update for each action."""


@dataclass(frozen=True, slots=True)
class DecidedRun:
    """A parked run after the decision."""

    run: ParkedRun
    answer: str = ""
    """What the workflow answered; empty if it refused the decision."""
    problem: str = ""
    """Why the workflow refused the decision; empty if it accepted the decision."""


async def decide(
    operator: Operator, tenant: str, subscriber: str, action: DecisionAction, decision: Decision
) -> tuple[str, str]:
    """Release the subscriber's parked order. Return the order's name and the workflow's answer.

    Raises `NotRunningError` without an order or a parked step, `UnavailableError` where no worker answers, and
    `RunStuckError`.
    """
    if not (order := await operator.open_order(tenant, subscriber)):
        raise NotRunningError(f"No order of subscriber {subscriber} is running: there is nothing to decide.")
    # Without a worker the update would time out here, and a later worker would still follow it.
    if shortage := await operator.worker_shortage():
        raise UnavailableError(f"{order} cannot take a decision now. {shortage}")
    await operator.require_answer(tenant, subscriber)
    try:
        return order, await operator.orders.decide(tenant, subscriber, UPDATES[action], decision)
    except NotRunningError as failure:
        raise NotRunningError(f"{order} of subscriber {subscriber}: {failure}") from None


async def decide_all(
    operator: Operator, runs: Iterable[ParkedRun], action: DecisionAction, decision: Decision
) -> AsyncIterator[DecidedRun]:
    """Release each of the parked runs. Raises `UnavailableError` where no worker answers.

    Each decision names the step that the list showed: meanwhile a colleague may have released the run, and the run
    may be parked at its next step.
    """
    runs = list(runs)
    if runs and (shortage := await operator.worker_shortage()):
        raise UnavailableError(f"Nothing can be decided now. {shortage}")
    for run in runs:
        listed = decision.model_copy(update={"step": run.step})
        try:
            await operator.require_answer(run.tenant, run.subscriber_ref)
            answer = await operator.orders.decide(run.tenant, run.subscriber_ref, UPDATES[action], listed)
        except (NotRunningError, RunStuckError) as failure:
            yield DecidedRun(run, problem=str(failure).rstrip("."))
        else:
            yield DecidedRun(run, answer=answer)
