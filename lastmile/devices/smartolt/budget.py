"""The budget of calls that an account at SmartOLT has in an hour."""

import math
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from lastmile.devices.errors import ControllerUnavailableError

__all__ = ["HOUR_SECONDS", "CallBudget"]

HOUR_SECONDS = 3600.0


class CallBudget:
    """Counts the calls of the last hour.

    Args:
        calls_per_hour: the most calls in any period of one hour.
        clock: returns the time in seconds since 1970.
    """

    def __init__(self, calls_per_hour: int, clock: Callable[[], float] = time.time) -> None:
        self._limit = calls_per_hour
        self._clock = clock
        self._calls: deque[float] = deque(maxlen=calls_per_hour)
        """When each call was made that counts, the oldest first."""
        self._closed_until = 0.0

    def spend(self) -> None:
        """Count a call. Raises `ControllerUnavailableError` where no call is left, and then counts nothing."""
        now = self._clock()
        if len(self._calls) == self._limit and self._calls[0] + HOUR_SECONDS > now:
            raise ControllerUnavailableError(
                f"The {self._limit} calls an hour to SmartOLT are used up. There is a call again "
                f"{_in_words(now, self._calls[0] + HOUR_SECONDS)}."
            )
        if now < self._closed_until:
            raise self._closed(now)
        self._calls.append(now)

    def close(self, seconds: float) -> ControllerUnavailableError:
        """Let no call be made for so many seconds, since SmartOLT's own limit is reached; return the error for it."""
        now = self._clock()
        self._closed_until = now + seconds
        return self._closed(now)

    def _closed(self, now: float) -> ControllerUnavailableError:
        return ControllerUnavailableError(
            "SmartOLT says that the account has no calls left. Lastmile makes the next call "
            f"{_in_words(now, self._closed_until)}."
        )


def _in_words(now: float, then: float) -> str:
    return f"at {datetime.fromtimestamp(then, UTC):%H:%M:%S} UTC, in {math.ceil((then - now) / 60)} min"
