"""Drivers behind entry points: an unknown or a broken one is refused in clear words."""

import pytest

from lastmile.devices.installed_drivers import DriverError, find_driver, validate_options
from lastmile.devices.records import DeviceKind
from lastmile.errors import InvalidInputError


def test_driver_is_found_by_the_name_of_its_entry_point(line_drivers: None) -> None:
    assert find_driver("line-onu").kind is DeviceKind.ONU
    assert find_driver("line-cpe").kind is DeviceKind.CPE


def test_unknown_driver_is_refused_with_the_known_ones(line_drivers: None) -> None:
    with pytest.raises(DriverError) as failure:
        find_driver("line-onus")
    assert str(failure.value).startswith("There is no driver 'line-onus'. The drivers are: ")
    assert "line-cpe, line-onu" in str(failure.value)
    assert str(failure.value).endswith("Did you mean 'line-onu'?")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "missing-module",
            "Driver missing-module (module_that_nobody_has:DRIVER of lastmile-line-driver) cannot be loaded: the "
            "Python module module_that_nobody_has is not installed.",
        ),
        (
            "broken-module",
            "Driver broken-module (lastmile_broken_driver of lastmile-line-driver) cannot be loaded: RuntimeError.",
        ),
        (
            "no-driver",
            "Driver no-driver (lastmile_line_driver:Options of lastmile-line-driver) lacks kind and options and open: "
            "it is not a driver.",
        ),
    ],
)
def test_driver_that_cannot_be_used_is_refused_with_the_reason(line_drivers: None, name: str, reason: str) -> None:
    with pytest.raises(DriverError) as failure:
        find_driver(name)
    assert str(failure.value) == reason


def test_options_of_a_driver_are_validated_in_our_words(line_drivers: None) -> None:
    with pytest.raises(InvalidInputError) as failure:
        validate_options("line-onu", find_driver("line-onu"), {"zone": 7, "zones": "hush"})
    assert str(failure.value) == (
        "Invalid options of driver line-onu:\n"
        "  zone: must be text\n"
        "  zones: Unknown field. Valid fields: zone, fails, watches. Did you mean 'zone'?"
    )
