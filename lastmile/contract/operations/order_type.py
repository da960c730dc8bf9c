"""The entry of an order type."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from lastmile.contract.line_states import LineState
from lastmile.contract.orders import Operation, Order
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.contract.steps import CallKind, Step

__all__ = ["ADDRESS_FACTS", "LineEffect", "OrderType", "verify_line"]

OrderT = TypeVar("OrderT", bound=Order)

ADDRESS_FACTS = (*ADDRESS_FIELDS.values(), "vrf")


class LineEffect(StrEnum):
    """What a finished order has done to the subscriber's line."""

    CREATES = "creates"
    CHANGES = "changes"
    ENDS = "ends"


@dataclass(frozen=True, slots=True)
class OrderType(Generic[OrderT]):
    """One order type."""

    operation: Operation
    model: type[OrderT]
    """What callers send."""
    summary: str
    """What the order does, for people."""
    effect: LineEffect
    steps: tuple[Step[OrderT], ...]
    invariants: tuple[str, ...]
    """The audit's invariants that a finished order of this type must satisfy."""
    refused_in: Mapping[LineState, str] = field(default_factory=dict)
    """The states of the line in which the order is refused, each with a sentence for the reason of the refusal."""

    @property
    def workflow(self) -> str:
        """Return the workflow type in Temporal: `ChangePlan` of the operation `change_plan`."""
        return "".join(word.capitalize() for word in self.operation.split("_"))


def verify_line(operation: Operation) -> Step[Any]:
    """Return the first step of an order that changes a line: it refuses the order in the states of `refused_in`."""
    return Step(
        "verify_line",
        "find the line",
        CallKind.DATABASE,
        content=lambda _: (operation,),
        gate=True,
        facts=("subscriber_id",),
    )
