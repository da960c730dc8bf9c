"""The interface of an OLT controller and of an ACS, which a client for a vendor implements.

Every call converges: it may be repeated at any time, reads the state back, and takes "it is so already" for done; to
switch off a device that the controller does not know is done as well. A call that the controller has accepted, and
that the device has yet to follow, is not done: its outcome says what the device waits for.

Every call raises the errors of `lastmile.devices.errors`, and no other: `ControllerUnavailableError` where a repeated
call can help, `DeviceNotSeenError`, `ControllerRefusedError` and `AmbiguousDeviceError`.
"""

from dataclasses import dataclass
from typing import Protocol

from lastmile.devices.errors import DeviceNotSeenError

__all__ = ["DONE", "Controller", "DeviceSwitch", "LineDevice", "OnuController", "Outcome", "switch"]


@dataclass(frozen=True, slots=True)
class LineDevice:
    """An ONU on its OLT, or a CPE at its ACS."""

    subscriber_ref: str
    identity: str
    """Serial number of the ONU (ITU-T G.984.3). MAC address of the CPE; without one, `Line.tr069_identity`."""
    olt: str | None = None
    pon_port: str | None = None
    s_vlan: int | None = None
    c_vlan: int | None = None
    shared: bool = False
    """Whether other lines are in service on the same ONU (`fttb`). The controller must not affect those lines."""
    tenant: str = ""
    onu_type: str | None = None
    """The type of the ONU, as the controller names it."""
    speed_profile: str | None = None
    """The profile of the OLT that has the rates of the plan. None: the controller sets the rates themselves."""
    download_kbps: int | None = None
    """The rate of the line's plan towards the subscriber; None: not known, as for a CPE."""
    upload_kbps: int | None = None
    oui: str | None = None
    """TR-069 identifies the CPE by its OUI, product class and serial number."""
    product_class: str | None = None
    serial: str | None = None

    @property
    def place(self) -> tuple[object, ...]:
        """The ONU at its port and with its VLANs."""
        return self.identity, self.olt, self.pon_port, self.s_vlan, self.c_vlan


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call that the controller has accepted."""

    waits_for: str = ""
    """What the device waits for, as in `the CPE is offline`; empty: the device is in the state, as was read back."""


DONE = Outcome()


class DeviceSwitch(Protocol):
    """What switches devices of one kind: a controller, or the choice among several."""

    async def switch_on(self, device: LineDevice) -> Outcome:
        """Activate the ONU, or configure the CPE."""

    async def switch_off(self, device: LineDevice) -> Outcome:
        """Deactivate the ONU, or remove the configuration of the CPE, and what waits at the controller for it."""


class Controller(DeviceSwitch, Protocol):
    """A controller of devices of one kind."""

    @property
    def forgets(self) -> bool:
        """Whether the controller can lose what it was told, as VOLTHA's core loses flows when it is killed.

        Then it is asked again for each device in service from time to time.
        """

    async def check(self) -> str:
        """Return the product and its version, if the controller answers and accepts the credentials."""


class OnuController(Controller, Protocol):
    """A controller of ONUs."""

    async def set_speed(self, device: LineDevice) -> Outcome:
        """Give the line on the ONU its rates, which are known."""


async def switch(controller: DeviceSwitch, device: LineDevice, on: bool) -> str:
    """Switch the device on or off; return what it waits for, or an empty text where it has followed."""
    try:
        outcome = await (controller.switch_on if on else controller.switch_off)(device)
    except DeviceNotSeenError as unseen:
        return str(unseen)
    return outcome.waits_for
