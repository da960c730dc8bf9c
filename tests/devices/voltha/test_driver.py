"""The driver as an installed package: behind its entry point, and loaded only where it is used."""

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points

from lastmile.devices.drivers import GROUP
from lastmile.devices.records import DeviceKind
from lastmile.devices.voltha.options import VolthaOptions
from tests.support.readme import ROOT


def test_entry_point_voltha_is_the_driver() -> None:
    (entry,) = entry_points(group=GROUP, name="voltha")
    driver = entry.load()
    assert (driver.kind, driver.options) == (DeviceKind.ONU, VolthaOptions)


def test_page_of_the_driver_names_each_option_with_its_default() -> None:
    page = (ROOT / "docs/operations/controllers/voltha.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.M))
    assert rows == {name: json.dumps(field.default) for name, field in VolthaOptions.model_fields.items()}


def test_worker_imports_nothing_of_voltha_before_it_is_used() -> None:
    """The modules of the driver need the extra `voltha`. (Temporal's SDK imports grpcio where it is installed.)"""
    program = "import sys, lastmile.worker, lastmile.cli; print([one for one in sys.modules if 'voltha' in one])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert ran.stdout == "[]\n"
