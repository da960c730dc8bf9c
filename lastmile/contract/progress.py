"""Where the run of an order stands, and what an operator can decide about it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lastmile.contract.orders import Operation
from lastmile.contract.results import OrderResult, StepResult
from lastmile.fields.text import PRINTABLE, Text

__all__ = ["Decision", "Parked", "Progress", "RunStatus"]


class RunStatus(StrEnum):
    """What a run is doing."""

    RUNNING = "running"
    ROLLING_BACK = "rolling_back"
    PARKED = "parked"
    """The run waits for an operator's `retry_step`, `skip_step` or `abandon`."""
    ENDED = "ended"


class Decision(BaseModel):
    """An operator's decision about a parked step."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    by: Annotated[str, Field(strict=True, min_length=1, max_length=100), PRINTABLE]
    why: Annotated[str, Field(strict=True, min_length=1, max_length=500), PRINTABLE]
    step: Text | None = None
    """The parked step that the operator means. None: the step that is parked now."""


class Parked(BaseModel):
    """The failure that a parked run waits with."""

    step: str
    undo: bool = False
    """The step's undo failed, not the step itself."""
    failure: str
    attempts: int | None = None
    """The number of attempts, including those that operators asked for. None: unknown."""
    since: datetime
    """The time of the first failure. A retry that fails does not change it."""

    @property
    def what(self) -> str:
        """Name the work that failed, for a person."""
        return f"undo of {self.step}" if self.undo else self.step


class Progress(BaseModel):
    """The answer to the `progress` query."""

    operation: Operation
    order_id: str
    status: RunStatus
    step: str | None = None
    attention: str = ""
    """What an operator must decide. Empty where the run is not parked."""
    parked: Parked | None = None
    """The same, for programs."""
    waits_until: datetime | None = None
    """The run waits until then before its next step, by a durable timer. None: it does not wait."""
    steps: list[StepResult] = []
    result: OrderResult | None = None
    """Set once the run has ended."""
