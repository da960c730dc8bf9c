"""What commands ask about orders, whether they reach Temporal or the REST API."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

from lastmile.client.parked_runs import ParkedRun
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.contract import AnyOrder, Decision, OrderResult

__all__ = ["Operator", "OrderClient"]


class Run(Protocol):
    """An order that was started, or is scheduled."""

    @property
    def scheduled(self) -> ScheduledOrder | None:
        """The scheduled order: nothing has started."""

    async def result(self) -> OrderResult:
        """Wait for the end and return the result."""


class Scheduled(Protocol):
    """The scheduled orders."""

    def waiting(self, tenant: str | None = None) -> AsyncIterator[ScheduledOrder]:
        """Yield all scheduled orders, or those of one tenant, in no order."""

    async def move(self, tenant: str, order_id: str, at: datetime) -> ScheduledOrder:
        """Change the start time of the order. Raises `NotScheduledError`."""

    async def cancel(self, tenant: str, order_id: str) -> None:
        """Cancel the order before it starts. Raises `NotScheduledError`."""


class OrderClient(Protocol):
    """A client that starts and steers orders: `Lastmile`, or `LastmileApi`."""

    @property
    def scheduled(self) -> Scheduled:
        """The scheduled orders."""

    async def start(self, order: AnyOrder) -> Run:
        """Start the order. The same order again returns its run, or its result."""

    async def cancel(self, tenant: str, subscriber_ref: str) -> None:
        """Ask the running order to stop and roll back. Raises `NotRunningError`."""

    async def decide(self, tenant: str, subscriber_ref: str, update: str, decision: Decision) -> str:
        """Send a decision about the parked step, and return the answer."""


class Operator(Protocol):
    """`OperatorClient`, or `ApiOperator`."""

    @property
    def orders(self) -> OrderClient:
        """The client of orders."""

    async def open_order(self, tenant: str, subscriber: str) -> str:
        """Name the subscriber's order that has not ended; empty without such an order."""

    async def pending_decision(self, order: AnyOrder) -> str:
        """Describe the decision that the running order waits for; empty if its run is not parked."""

    async def parked_runs(self, tenant: str | None = None, step: str | None = None) -> list[ParkedRun]:
        """Return the parked orders, the longest waiting first: all, or those of one tenant or at one step."""

    async def require_answer(self, tenant: str, subscriber: str) -> None:
        """Raise `UnavailableError` where no worker answers for the subscriber's run."""

    async def temporal_answers(self) -> bool:
        """Return whether the Temporal server answers at all."""

    async def worker_shortage(self) -> str:
        """Describe why no worker takes new orders, and the remedy; empty if one does."""
