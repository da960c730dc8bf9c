"""Every failure that no retry repairs is decided on: the order is wrong, or Lastmile did not do its work."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import activities
import ipam
import lastmile.radius
import lastmile.subscribers
from activities.refusals import VERDICTS, Verdict, verdict_on
from lastmile.errors import NonRetryableError


def refusals(of: type[NonRetryableError] = NonRetryableError) -> Iterator[type[NonRetryableError]]:
    """Every type of failure that an activity can end with."""
    for kind in of.__subclasses__():
        if kind.__module__.startswith(("activities.", "ipam.", "lastmile.radius.", "lastmile.subscribers.")):
            yield kind
        yield from refusals(kind)


def test_every_refusal_of_an_activity_has_a_verdict() -> None:
    for package in (activities, ipam, lastmile.radius, lastmile.subscribers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    missing = set(refusals()) - set(VERDICTS)
    assert not missing, "add them to VERDICTS in activities/refusals.py"


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("UnknownPoolError", Verdict.REFUSED),
        ("PoolExhaustedError", Verdict.FAILED),
        ("ConnectionRefusedError", Verdict.FAILED),
    ],
)
def test_verdict_on_a_failure_goes_by_the_name_of_its_type(kind: str, verdict: Verdict) -> None:
    assert verdict_on(kind) is verdict
