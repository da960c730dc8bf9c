"""Tests of the rates of a plan as RADIUS attributes."""

import pytest

from lastmile.radius.rates import rate_items


@pytest.mark.parametrize(
    ("down", "up", "expected"),
    [
        (500_000, 100_000, [("WISPr-Bandwidth-Max-Down", "500000000"), ("WISPr-Bandwidth-Max-Up", "100000000")]),
        (4_294_967, 1, [("WISPr-Bandwidth-Max-Down", "4294967000"), ("WISPr-Bandwidth-Max-Up", "1000")]),
        (4_294_968, 1, [("ChilliSpot-Bandwidth-Max-Down", "4294968"), ("ChilliSpot-Bandwidth-Max-Up", "1")]),
        (
            10_000_000,
            10_000_000,
            [("ChilliSpot-Bandwidth-Max-Down", "10000000"), ("ChilliSpot-Bandwidth-Max-Up", "10000000")],
        ),
        (1, 5_000_000, [("ChilliSpot-Bandwidth-Max-Down", "1"), ("ChilliSpot-Bandwidth-Max-Up", "5000000")]),
    ],
)
def test_rate_items_of_any_rate_fit_into_32_bits(down: int, up: int, expected: list[tuple[str, str]]) -> None:
    assert rate_items(down, up) == expected
    assert all(int(value) < 2**32 for _, value in rate_items(down, up))
