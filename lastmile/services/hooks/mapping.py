"""What a mapping is: the rules by which the events of one CRM become orders.

docs/development/adding-a-webhook-mapping.md says how to write one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lastmile.contract.line_states import LineState
from lastmile.errors import NonRetryableError
from lastmile.services.hooks.verification import Verification

__all__ = ["Body", "EventIdentity", "Ignored", "LineFacts", "Mapping", "OrderDraft", "UnmappableError"]

Body = dict[str, Any]
"""The JSON object that a CRM has sent."""

OrderDraft = dict[str, Any]
"""The fields of an order, without `tenant`, `order_id` and `requested_by`."""


class UnmappableError(NonRetryableError):
    """The event cannot become an order as it is. The message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class EventIdentity:
    """What identifies an event. A value that is not usable is None: the event is kept all the same."""

    event_id: str | None
    """The CRM's own id of the event: the same id is the same event."""
    name: str
    """The kind of event, such as `service.suspend`."""
    subscriber_ref: str | None = None
    customer_ref: str | None = None


@dataclass(frozen=True, slots=True)
class LineFacts:
    """What Lastmile knows of the subscriber of an event."""

    state: LineState | None
    """The state of the line when the accepted orders of the subscriber have ended. None: there is no line then."""
    kept: frozenset[str] = frozenset()
    """The kinds of events of this subscriber that are kept since they could not be mapped."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that needs no order."""

    reason: str


class Mapping(Protocol):
    """The rules for the events of one CRM. A mapping reads no database and no network."""

    @property
    def name(self) -> str:
        """The name of the mapping in `lastmile hooks add --mapping`."""

    @property
    def verification(self) -> Verification:
        """How a request shows that it comes from the CRM."""

    def identify(self, body: Body) -> EventIdentity:
        """Return what identifies the event. Raises nothing: a body that makes no sense is kept too."""

    def to_orders(self, body: Body, line: LineFacts) -> Sequence[OrderDraft] | Ignored:
        """Return the orders that the event stands for, in their sequence.

        Raises:
            UnmappableError: the event lacks something.
        """
