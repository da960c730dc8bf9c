"""GenieACS with one CPE of TR-181."""

from contextlib import AbstractContextManager

from lastmile.devices.controllers import LineDevice
from lastmile.devices.drivers import Endpoint
from lastmile.devices.genieacs import driver
from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.cpe import Reachability
from lastmile.devstack.genieacs.cpe_models import tr_181_cpe
from lastmile.devstack.genieacs.faults import NbiFault
from tests.devices.contract.environment import ControllerEnv

__all__ = ["GenieAcsEnv"]


class GenieAcsEnv(ControllerEnv):
    """A GenieACS behind a proxy that demands a login."""

    driver = driver
    has_credentials = True

    def __init__(self) -> None:
        self.server = GenieAcsServer(authorization="Basic bGFzdG1pbGU6Y29ycmVjdA==")  # lastmile:correct
        self.cpe = tr_181_cpe("CPE000001")
        self.server.acs.add(self.cpe)
        self.device = LineDevice("S-1000", self.cpe.id, tenant="acme")
        self.unseen = LineDevice("S-1001", "00D09E-HGW%2D1-CPE000009", tenant="acme")

    def controller(self) -> AbstractContextManager[GenieAcsServer]:
        return self.server

    def endpoint(self, *, wrong_secret: bool = False) -> Endpoint:
        return Endpoint(self.server.url, "lastmile", "mistaken" if wrong_secret else "correct")

    def stop(self) -> None:
        self.server.stop()

    def is_on(self) -> bool:
        values = (self.cpe.read("Device.DeviceInfo.ProvisioningCode"), self.cpe.read("Device.PPP.Interface.1.Enable"))
        return values == ("S-1000", True) and "lastmile" in self._tags()

    def is_off(self) -> bool:
        return "lastmile" not in self._tags() and not self.server.acs.tasks

    def _tags(self) -> list[str]:
        return self.server.acs.devices[self.cpe.id].tags

    def unplug(self) -> None:
        self.cpe.reachability = Reachability.OFFLINE

    def plug_in(self) -> None:
        self.cpe.reachability = Reachability.ONLINE
        self.server.acs.inform(self.cpe)

    def lose_reply(self, after: int) -> None:
        self.server.faults.next(NbiFault.REPLY_LOST, after=after)

    def lost_reply(self) -> bool:
        return not self.server.faults.clear()
