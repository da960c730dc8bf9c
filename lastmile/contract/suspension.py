"""The modes of a suspension, and the treatment of live sessions whose NAS does not take a change."""

from enum import StrEnum

__all__ = ["Refusal", "SuspensionMode"]


class SuspensionMode(StrEnum):
    """The mode of a suspension."""

    BLOCK = "block"
    """Every login is refused."""
    WALLED_GARDEN = "walled_garden"
    """A login reaches the walled garden alone, such as a portal where the subscriber can pay."""
    SLOW = "slow"
    """A login gets the slow rate of the tenant."""


class Refusal(StrEnum):
    """What happens to a live session whose NAS does not take a change by a CoA-Request."""

    NEXT_LOGIN = "next_login"
    """The session keeps its attributes until its next login."""
    DISCONNECT = "disconnect"
    """The session is ended, and its next login gets the change."""
