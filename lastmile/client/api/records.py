"""What the API answers with: an order, a parked order, and the caller of the token."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from lastmile.contract import Parked, Progress, RunStatus, StepResult
from lastmile.services.records.orders import OrderRecord

__all__ = ["ApiCaller", "ApiOrder", "ApiParked", "attention"]


class ApiCaller(BaseModel):
    """The caller that the token stands for."""

    subject: str
    """The name of the caller in the audit log."""
    tenant: str | None
    """None: the token is for all tenants."""
    permissions: list[str]
    expires: datetime | None


class ApiOrder(OrderRecord):
    """An order, with its live steps or its result."""

    steps: list[StepResult] | None = None
    step: str | None = None
    parked: Parked | None = None
    live: Literal["progress", "no worker"] | None = None

    def progress(self) -> Progress:
        """Return the same as the answer of a workflow to the query `progress`."""
        ended = self.result is not None
        return Progress(
            operation=self.operation,
            order_id=self.order_id,
            status=RunStatus.ENDED if ended else RunStatus(self.status),
            step=self.step,
            attention=attention(self.parked),
            parked=self.parked,
            steps=self.steps or [],
            result=self.result,
        )


def attention(parked: Parked | None) -> str:
    """Say what an operator must decide; empty for a run that is not parked."""
    return f"{parked.what} failed: {parked.failure}" if parked else ""


class ApiParked(BaseModel):
    """A parked order."""

    tenant: str
    subscriber_ref: str
    order_id: str
    operation: str
    step: str
    started_at: datetime
    attention: str
    parked: Parked | None
    unknown: str
