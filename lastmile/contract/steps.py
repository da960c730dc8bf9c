"""The steps of an order as data. The saga runs them; the audit, the dry run and the documentation read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Generic, TypeVar

from lastmile.contract.orders import Order

__all__ = ["CallKind", "RecordKind", "Step", "pivot_of"]

OrderT = TypeVar("OrderT", bound=Order)


class CallKind(Enum):
    """The system that a step calls. It decides how long an attempt may take and how often it is repeated."""

    DATABASE = auto()
    IPAM = auto()
    RADIUS = auto()
    DEVICE = auto()


class RecordKind(StrEnum):
    """A kind of record that steps create or change. Each record names the order that did it.

    `lastmile.subscribers.order_records` says in which table and column.
    """

    CUSTOMER = "customer"
    SUBSCRIBER = "subscriber"
    NETWORK_PROFILE = "network profile"
    RADIUS_ACCOUNT = "RADIUS account"
    BILLING_SERVICE = "billing service"
    DEVICE = "device"
    PREFIX = "prefix"
    SUSPENSION = "suspension"
    PREVIOUS_VALUES = "previous values"
    """What a step has replaced, for its undo."""


@dataclass(frozen=True, slots=True)
class Step(Generic[OrderT]):
    """One step of an order: an activity, and the activity that undoes it."""

    name: str
    """The activity, and the step's name in results, metrics and the Temporal UI."""
    title: str
    """What the step does, for an operator."""
    kind: CallKind
    undo: str | None = None
    """The activity that undoes the step."""
    content: Callable[[OrderT], tuple[Any, ...]] = lambda _: ()
    """The arguments that the activity gets of the order, beside its context."""
    creates: tuple[RecordKind, ...] = ()
    """The records that the step creates. The undo removes those of its order; the audit reports what is left."""
    changes: tuple[RecordKind, ...] = ()
    """The records that the step changes or ends. The undo changes back those of its order."""
    facts: tuple[str, ...] = ()
    """The fields of `Created` that the step reports."""
    best_effort: bool = False
    """A failure is a warning, and the order ends degraded."""
    pivot: bool = False
    """The point of no return: from this step on, the order only goes forward."""
    gate: bool = False
    """The step changes nothing. An order that it refuses has nothing to work on and is rolled back, even where it
    can only go forward: otherwise the order would park for ever."""


def pivot_of(steps: Sequence[Step[Any]]) -> int:
    """Return the index of the pivot; the number of steps where there is none."""
    return next((index for index, step in enumerate(steps) if step.pivot), len(steps))
