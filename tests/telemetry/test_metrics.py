"""Tests of the counters' initial values."""

from prometheus_client import REGISTRY

from lastmile.contract import Operation, ResultStatus
from lastmile.telemetry.metrics import OUTCOMES, start_at_zero


def test_every_operation_and_every_outcome_starts_at_zero() -> None:
    ended = set(ResultStatus) - {ResultStatus.SCHEDULED}
    assert set(OUTCOMES) == {*ended, "cancelled", "refused"}
    start_at_zero("zero")
    for operation in Operation:
        for outcome in OUTCOMES:
            labels = {"operation": operation, "tenant": "zero", "outcome": outcome}
            assert REGISTRY.get_sample_value("lastmile_orders_total", labels) == 0
