"""Run consecutive steps of an order in one transaction, each by its own name.

The saga decides which steps form a group; no step knows of it. In a group, a step's transaction is a savepoint of the
shared one. The group stops before the first step that fails or that needs another system: what came before it stays.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import to_json
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.current_step import GroupedStep, in_group
from activities.group_messages import GroupReport, StepCall, StepFailure
from activities.messages import StepContext, StepReport
from lastmile.db import TenantConnection

__all__ = ["StepGroups", "StepInterceptor"]


class StepInterceptor(Interceptor):
    """An interceptor of a worker that also sees each step of a group, as it sees an activity.

    `activities.current_step` names the step. Other interceptors see the group as one activity.
    """


class StepGroups:
    """Runs groups of steps.

    Args:
        steps: The activities of steps and undos, by name.
        interceptors: They see each step; the first one is the outermost.
    """

    def __init__(self, steps: Mapping[str, Callable[..., Any]], interceptors: Sequence[StepInterceptor] = ()) -> None:
        self._steps = steps
        chain: ActivityInboundInterceptor = _Execution()
        for interceptor in reversed(interceptors):
            chain = interceptor.intercept_activity(chain)
        self._chain = chain

    async def run(self, connection: TenantConnection, ref: StepContext, calls: Sequence[StepCall]) -> GroupReport:
        """Run the steps in the transaction, which has passed the order's fence, until one fails or declines."""
        reports: list[StepReport] = []
        for call in calls:
            try:
                reports.append(await self.run_one(connection, ref, call))
            except ApplicationError as failure:
                why = StepFailure(type=failure.type or "", message=failure.message, final=failure.non_retryable)
                return GroupReport(steps=reports, failure=why)
        return GroupReport(steps=reports)

    async def run_one(self, connection: TenantConnection, ref: StepContext, call: StepCall) -> StepReport:
        """Run one step in the transaction. Raises the step's `ApplicationError`; the transaction can go on."""
        run = self._steps[call.activity]
        began_at = datetime.now(UTC)
        report: StepReport = await self.run_within(connection, ref, call.activity, run, *_arguments(run, call))
        seconds = (datetime.now(UTC) - began_at).total_seconds()
        return report.model_copy(update={"started_at": began_at, "seconds": seconds})

    async def run_within(
        self, connection: TenantConnection, ref: StepContext, name: str, run: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Run a part of the group in the transaction, so that the interceptors see it by its name."""
        with in_group(GroupedStep(name, connection)):
            return await self._chain.execute_activity(
                ExecuteActivityInput(fn=run, args=[ref, *arguments], executor=None, headers={})
            )


class _Execution(ActivityInboundInterceptor):
    """The end of the chain of interceptors: runs the step."""

    def __init__(self) -> None:
        pass

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await input.fn(*input.args)


def _arguments(run: Callable[..., Any], call: StepCall) -> list[Any]:
    """Return the arguments of the step after its context, as its activity would receive them."""
    adapters = _adapters(getattr(run, "__func__", run))
    return [adapter.validate_json(to_json(value)) for adapter, value in zip(adapters, call.content, strict=True)]


@cache
def _adapters(function: Callable[..., Any]) -> list[TypeAdapter[Any]]:
    """Return what parses each argument of a step, or of the function of its method, after the context."""
    hints = get_type_hints(inspect.unwrap(function))
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return [TypeAdapter(hints[name]) for name in names[1:]]
