"""The choice of the controller that is responsible for a device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, Self, TypeVar

from lastmile.devices.controllers import Controller, LineDevice, OnuController, Outcome
from lastmile.devices.errors import ControllerUnavailableError
from lastmile.devices.records import DeviceKind
from lastmile.devices.scopes import Scope

__all__ = ["CONTROLLER_NAMES", "Controllers", "OnuRouter", "Route", "Router", "no_controller"]

CONTROLLER_NAMES = {DeviceKind.ONU: "OLT controller", DeviceKind.CPE: "ACS"}

C = TypeVar("C", bound=Controller)


@dataclass(frozen=True, slots=True)
class Route(Generic[C]):
    """A controller and its scope."""

    scope: Scope
    controller: C


class Router(Generic[C]):
    """The controllers of one kind of device: each call goes to the controller that is responsible for its device.

    A call raises `ControllerUnavailableError` where no controller is responsible. So a step whose controller has just
    been removed is retried, and then skipped.
    """

    def __init__(self, kind: DeviceKind, routes: Sequence[Route[C]] = ()) -> None:
        self._kind = kind
        self.routes = routes
        """The controllers at this moment."""

    def controls(self, device: LineDevice) -> bool:
        """Return whether a controller is responsible for the device."""
        return self._route(device) is not None

    def scope_of(self, device: LineDevice) -> Scope | None:
        """Return the scope of the responsible controller, which no other controller has; None: there is none."""
        route = self._route(device)
        return None if route is None else route.scope

    async def switch_on(self, device: LineDevice) -> Outcome:
        """Activate the ONU, or configure the CPE."""
        return await self._responsible(device).switch_on(device)

    async def switch_off(self, device: LineDevice) -> Outcome:
        """Deactivate the ONU, or remove the configuration of the CPE."""
        return await self._responsible(device).switch_off(device)

    def forgets(self, device: LineDevice) -> bool:
        """Return whether the controller of the device, if there is one, can lose what it was told."""
        route = self._route(device)
        return route is not None and route.controller.forgets

    def _responsible(self, device: LineDevice) -> C:
        if (route := self._route(device)) is None:
            raise ControllerUnavailableError(
                f"{device.identity}: {no_controller(self._kind, device)}. Add one with `lastmile controller add`."
            )
        return route.controller

    def _route(self, device: LineDevice) -> Route[C] | None:
        ranked = [(rank, route) for route in self.routes if (rank := route.scope.precedence(device)) is not None]
        return max(ranked, key=itemgetter(0))[1] if ranked else None


class OnuRouter(Router[OnuController]):
    """The controllers of ONUs."""

    async def set_speed(self, device: LineDevice) -> Outcome:
        """Give the line on the ONU these rates, without a break."""
        return await self._responsible(device).set_speed(device)


@dataclass(frozen=True, slots=True)
class Controllers:
    """The controllers of an installation."""

    onu: OnuRouter
    cpe: Router[Controller]

    @property
    def by_kind(self) -> Mapping[DeviceKind, Router[Any]]:
        """The controllers by the kind of device."""
        return {DeviceKind.ONU: self.onu, DeviceKind.CPE: self.cpe}

    @classmethod
    def everywhere(cls, onu: OnuController | None = None, cpe: Controller | None = None) -> Self:
        """Return one controller for all ONUs, and one for all CPEs; None: there is none."""
        return cls(
            OnuRouter(DeviceKind.ONU, [Route(Scope(DeviceKind.ONU), onu)] if onu else []),
            Router(DeviceKind.CPE, [Route(Scope(DeviceKind.CPE), cpe)] if cpe else []),
        )


def no_controller(kind: DeviceKind, device: LineDevice) -> str:
    """Say that no controller is responsible for the device."""
    place = f" for {device.olt}" if kind is DeviceKind.ONU and device.olt else ""
    return f"no {CONTROLLER_NAMES[kind]} is configured{place}"
