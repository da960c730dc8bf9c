"""The run of one order, and its result."""

from dataclasses import dataclass
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError

from lastmile.client.availability import retry_unavailable
from lastmile.client.errors import OrderRefusedError, RunLostError
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.contract import AnyOrder, OrderResult, Progress, ResultStatus

__all__ = ["OrderRun", "scheduled_result"]


@dataclass(frozen=True, slots=True)
class OrderRun:
    """The run of an order, which was started or found; or an order that a Schedule holds until its `not_before`."""

    order: AnyOrder
    handle: WorkflowHandle[Any, OrderResult]
    """The subscriber's run. While a Schedule holds the order, it is not the run of this order."""
    scheduled: ScheduledOrder | None = None
    """The Schedule that holds the order: nothing has started."""

    async def result(self) -> OrderResult:
        """Wait for the end and return the result. For a scheduled order, return at once with the status `scheduled`.

        Raises `OrderRefusedError` where the order was never begun and `RunLostError` where its run was terminated.
        """
        if self.scheduled is not None:
            return scheduled_result(self.order, self.scheduled)
        try:
            result: OrderResult = await retry_unavailable(self.handle.result)
            return result
        except WorkflowFailureError as failure:
            cause = failure.cause
            if isinstance(cause, CancelledError):
                return await self._recorded()
            if isinstance(cause, ApplicationError):
                if cause.details:
                    return OrderResult.model_validate(cause.details[0])
                raise OrderRefusedError(f"{cause.message}") from failure
            raise RunLostError(
                f"The run of order {self.order.order_id} was ended from outside ({cause}). "
                "The subscriber's next order takes over what it left."
            ) from failure

    async def _recorded(self) -> OrderResult:
        """Return the result of a canceled run, which returns nothing but answers the `progress` query."""
        progress: Progress = await retry_unavailable(lambda: self.handle.query("progress", result_type=Progress))
        if progress.result is None:
            raise RunLostError(f"The run of order {self.order.order_id} ended without a result.")
        return progress.result


def scheduled_result(order: AnyOrder, scheduled: ScheduledOrder) -> OrderResult:
    """Return the result of an order that waits for its time."""
    return OrderResult(
        operation=order.operation,
        tenant=order.tenant,
        order_id=order.order_id,
        subscriber_ref=order.subscriber_ref,
        status=ResultStatus.SCHEDULED,
        reason=f"starts at {scheduled.at:%Y-%m-%d %H:%M:%S} UTC, by Temporal Schedule {scheduled.schedule}",
    )
