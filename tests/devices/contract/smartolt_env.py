"""SmartOLT with one ONU, which is authorized and disabled."""

from contextlib import AbstractContextManager

from lastmile.devices.drivers import Endpoint
from lastmile.devices.smartolt import driver
from lastmile.devices.smartolt.options import SmartOltOptions
from lastmile.devstack.smartolt import SmartOltServer
from lastmile.devstack.smartolt.account import AccountOnu
from lastmile.devstack.smartolt.faults import SmartOltFault
from tests.devices.contract.environment import ControllerEnv
from tests.devices.smartolt.lines import OPTIONS, line

__all__ = ["SmartOltEnv"]


class SmartOltEnv(ControllerEnv):
    """An account at SmartOLT."""

    driver = driver
    has_credentials = True

    def __init__(self) -> None:
        self.server = SmartOltServer(token="correct")
        account = self.server.account
        self.onu = account.authorize(account.add(AccountOnu("ACME00000001")))
        self.onu.enabled = False
        self.device, self.unseen = line("ACME00000001"), line("ACME00000009")

    def controller(self) -> AbstractContextManager[SmartOltServer]:
        return self.server

    def endpoint(self, *, wrong_secret: bool = False) -> Endpoint:
        return Endpoint(self.server.url, secret="mistaken" if wrong_secret else "correct")

    def options(self) -> SmartOltOptions:
        return OPTIONS

    def stop(self) -> None:
        self.server.stop()

    def is_on(self) -> bool:
        return self.onu.in_service and self.onu.plugged

    def is_off(self) -> bool:
        return not self.onu.in_service

    def unplug(self) -> None:
        self.onu.plugged = False

    def plug_in(self) -> None:
        self.onu.plugged = True

    def lose_reply(self, after: int) -> None:
        self.server.fail_next(SmartOltFault.REPLY_LOST, after=after)

    def lost_reply(self) -> bool:
        return not self.server.clear_faults()
