"""The states of a subscriber's line, as orders see them."""

from enum import StrEnum

__all__ = ["LineState"]


class LineState(StrEnum):
    """The state of a line. An order type says in which states it is refused (`OrderType.refused_in`)."""

    IN_SERVICE = "in service"
    SUSPENDED = "suspended"
    """The subscriber pays nothing. Internet access is blocked or limited. The line keeps its addresses."""
