"""The interface of an OLT controller and of an ACS, which a client for a vendor implements.

Every call is idempotent, and raises an exception unless the device has confirmed the new state.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Controller", "LineDevice", "OnuController"]


@dataclass(frozen=True, slots=True)
class LineDevice:
    """An ONU on its OLT, or a CPE at its ACS."""

    subscriber_ref: str
    identity: str
    """Serial number of the ONU (ITU-T G.984.3), MAC address of the CPE."""
    olt: str | None = None
    pon_port: str | None = None
    s_vlan: int | None = None
    c_vlan: int | None = None
    shared: bool = False
    """Whether other lines are in service on the same ONU (`fttb`). The controller must not affect those lines."""


class Controller(Protocol):
    """A controller of devices of one kind."""

    async def switch_on(self, device: LineDevice) -> None:
        """Activate the ONU, or configure the CPE."""

    async def switch_off(self, device: LineDevice) -> None:
        """Deactivate the ONU, or remove the configuration of the CPE."""


class OnuController(Controller, Protocol):
    """A controller of ONUs."""

    async def set_speed(self, device: LineDevice, download_kbps: int, upload_kbps: int) -> None:
        """Give the line on the ONU these rates, without a break."""
