"""Tests of the setting for the reply attribute that names a VRF."""

import pytest

from lastmile.radius.vrf import VrfAttribute


@pytest.mark.parametrize(
    ("setting", "item"),
    [
        ("ERX-Virtual-Router-Name={vrf}", ("ERX-Virtual-Router-Name", "red")),
        ("Cisco-AVPair=ip:vrf-id={vrf}", ("Cisco-AVPair", "ip:vrf-id=red")),
        (" Huawei-VPN-Instance = {vrf} ", ("Huawei-VPN-Instance", "red")),
    ],
)
def test_parse_reads_name_and_value(setting: str, item: tuple[str, str]) -> None:
    assert VrfAttribute.parse(setting).item("red") == item


@pytest.mark.parametrize("setting", ["", "Cisco-AVPair", "Cisco-AVPair=red", "={vrf}", "A={vrf}{vrf}"])
def test_parse_without_name_or_placeholder_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="must be NAME=VALUE"):
        VrfAttribute.parse(setting)


def test_pattern_escapes_the_special_characters_of_like() -> None:
    assert VrfAttribute.parse("A=100%_\\{vrf}_").pattern == r"100\%\_\\%\_"
