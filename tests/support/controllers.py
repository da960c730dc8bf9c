"""Controllers of devices that record what they are told."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from lastmile.db import TenantConnection
from lastmile.devices.controllers import DONE, LineDevice, Outcome
from lastmile.devices.pending_calls import begin_call, record_answer
from lastmile.devices.records import DeviceKind

__all__ = ["RecordingController", "answered"]


class RecordingController:
    """An OLT controller or an ACS that confirms everything, and keeps the devices that are on by identity."""

    forgets = False

    def __init__(self) -> None:
        self.told: list[tuple[str, LineDevice]] = []
        self.on: dict[str, LineDevice] = {}
        self.waiting: dict[str, str] = {}
        """What a device waits for, by identity."""
        self.failing: dict[str, Exception] = {}
        """The failure of each call that puts a device into service, by identity."""
        self.before: Callable[[], Awaitable[None]] | None = None
        """What happens before a call puts a device into service."""
        self.before_off: Callable[[], Awaitable[None]] | None = None
        """What happens before a call takes a device out of service."""

    async def check(self) -> str:
        return "recording"

    async def switch_on(self, device: LineDevice) -> Outcome:
        if self.before is not None:
            await self.before()
        if failure := self.failing.get(device.identity):
            raise failure
        self.told.append(("on", device))
        # A CPE whose MAC address an order corrects is the same CPE.
        self.on = {
            identity: other
            for identity, other in self.on.items()
            if device.serial is None or _tr069_names(other) != _tr069_names(device)
        } | {device.identity: device}
        return self._answer(device)

    async def switch_off(self, device: LineDevice) -> Outcome:
        if self.before_off is not None:
            await self.before_off()
        self.told.append(("off", device))
        if not device.shared:
            self.on.pop(device.identity, None)
        return self._answer(device)

    async def set_speed(self, device: LineDevice) -> Outcome:
        if device.identity in self.on:
            self.on[device.identity] = replace(device, shared=False)
        return self._answer(device)

    def _answer(self, device: LineDevice) -> Outcome:
        waits_for = self.waiting.get(device.identity)
        return Outcome(waits_for) if waits_for else DONE

    @property
    def words(self) -> list[str]:
        """What the controller was told, in order."""
        return [f"{what} {device.identity} {device.pon_port}" for what, device in self.told]


def _tr069_names(cpe: LineDevice) -> tuple[str | None, ...]:
    return cpe.oui, cpe.product_class, cpe.serial


async def answered(
    connection: TenantConnection, order_id: str, kind: DeviceKind, device: LineDevice, on: bool, waits_for: str = ""
) -> None:
    """Record a call of acme's, and what its device waits for; empty: it has followed."""
    version = await begin_call(connection, "acme", order_id, kind, device, on)
    await record_answer(connection, kind, device, on, version, waits_for)
