"""What Lastmile asks of an OLT controller and of an ACS: the ports that a vendor's client fills.

Every call is idempotent, and raises where it cannot tell that the device is in the state asked for.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Controller", "LineDevice"]


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
    """Other lines are in service on the same ONU (`fttb`): only this line may be taken out of service."""


class Controller(Protocol):
    """Brings devices of one kind into service and out of it."""

    async def switch_on(self, device: LineDevice) -> None:
        """Activate the ONU / configure the CPE."""

    async def switch_off(self, device: LineDevice) -> None:
        """Deactivate the ONU / remove the CPE's configuration."""
