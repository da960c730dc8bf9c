"""The driver as an installed package, its options, and its page."""

import json
import re
from importlib.metadata import entry_points

import pytest

from lastmile.devices.installed_drivers import validate_options
from lastmile.devices.records import DeviceKind
from lastmile.devices.smartolt.options import SmartOltOptions
from lastmile.errors import InvalidInputError
from tests.support.readme import ROOT


def test_entry_point_smartolt_is_the_driver() -> None:
    (entry,) = entry_points(group="lastmile.controllers", name="smartolt")
    driver = entry.load()
    assert (driver.kind, driver.options) == (DeviceKind.ONU, SmartOltOptions)


def test_page_of_the_driver_names_each_option_with_its_default() -> None:
    page = (ROOT / "docs/operations/controllers/smartolt.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.M))
    assert rows == {
        name: "required" if field.is_required() else json.dumps(field.default)
        for name, field in SmartOltOptions.model_fields.items()
    }


@pytest.mark.parametrize(
    ("wrong", "named"), [({"olts": {}}, "olts"), ({"olts": {"olt-1": 0}}, "olts"), ({"zone": "Zone/1"}, "zone")]
)
def test_wrong_option_is_refused_by_its_name(wrong: dict[str, object], named: str) -> None:
    (driver,) = entry_points(group="lastmile.controllers", name="smartolt")
    given = {"olts": {"olt-1": 1}, "zone": "Zone 1", "speed_profile": "1G"}
    validate_options("smartolt", driver.load(), given)
    with pytest.raises(InvalidInputError) as failure:
        validate_options("smartolt", driver.load(), given | wrong)
    assert named in str(failure.value.args)
