"""The budget of calls: what is counted, and when there are calls again."""

import pytest

from lastmile.devices.errors import ControllerUnavailableError
from lastmile.devices.smartolt.budget import CallBudget


class Clock:
    """A clock that stands at noon UTC of the first of January 1970 until a test sets it forward."""

    def __init__(self) -> None:
        self.now = 12 * 3600.0

    def __call__(self) -> float:
        return self.now


def test_spend_of_a_used_up_budget_says_when_there_is_a_call_again() -> None:
    clock = Clock()
    budget = CallBudget(2, clock)
    budget.spend()
    clock.now += 600
    budget.spend()
    with pytest.raises(ControllerUnavailableError) as failure:
        budget.spend()
    assert str(failure.value) == (
        "The 2 calls an hour to SmartOLT are used up. There is a call again at 13:00:00 UTC, in 50 min."
    )


def test_spend_an_hour_after_a_call_has_that_call_again_and_no_other() -> None:
    clock = Clock()
    budget = CallBudget(2, clock)
    budget.spend()
    clock.now += 600
    budget.spend()
    clock.now = 13 * 3600.0
    budget.spend()
    with pytest.raises(ControllerUnavailableError, match="at 13:10:00 UTC, in 10 min"):
        budget.spend()


def test_spend_of_a_closed_budget_is_refused_until_its_time() -> None:
    clock = Clock()
    budget = CallBudget(2, clock)
    assert "at 12:10:00 UTC, in 10 min" in str(budget.close(600))
    with pytest.raises(ControllerUnavailableError, match=r"no calls left.* at 12:10:00 UTC"):
        budget.spend()
    clock.now += 600
    budget.spend()
