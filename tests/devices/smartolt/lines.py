"""Lines on ONUs of the stand-in, and the options of the driver for its account."""

from typing import Any

from lastmile.devices.controllers import LineDevice
from lastmile.devices.smartolt.options import SmartOltOptions

__all__ = ["ONU", "OPTIONS", "line"]

ONU = "ACME00000001"
OPTIONS = SmartOltOptions(olts={"olt-1": 1, "olt-2": 2}, zone="Zone 1", speed_profile="1G")


def line(onu: str = ONU, **values: Any) -> LineDevice:
    """Return a line with two VLANs at board 0, port 4 of the first OLT."""
    place = {"olt": "olt-1", "pon_port": "0/0/4", "s_vlan": 100, "c_vlan": 7}
    return LineDevice("S-1000", onu, tenant="acme", **(place | values))
