"""What is counted from 0 on is all that an order can come to."""

from lastmile.contract import Operation, ResultStatus
from lastmile.telemetry.metrics import OPERATIONS, OUTCOMES


def test_every_operation_and_every_outcome_starts_at_zero() -> None:
    assert set(OPERATIONS) == set(Operation)
    ended = set(ResultStatus) - {ResultStatus.SCHEDULED}
    assert set(OUTCOMES) == {*ended, "cancelled", "refused"}
