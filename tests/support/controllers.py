"""Controllers of devices that record what they are told."""

from lastmile.devices.controllers import LineDevice

__all__ = ["RecordingController"]


class RecordingController:
    """An OLT controller or an ACS that confirms everything, and keeps the devices that are on by identity."""

    def __init__(self) -> None:
        self.told: list[tuple[str, LineDevice]] = []
        self.on: dict[str, LineDevice] = {}
        self.speeds: dict[str, tuple[int, int]] = {}
        """The rates that the controller was given for a subscriber: download and upload in kbit/s."""

    async def switch_on(self, device: LineDevice) -> None:
        self.told.append(("on", device))
        self.on[device.identity] = device

    async def switch_off(self, device: LineDevice) -> None:
        self.told.append(("off", device))
        if not device.shared:
            self.on.pop(device.identity, None)

    async def set_speed(self, device: LineDevice, download_kbps: int, upload_kbps: int) -> None:
        self.speeds[device.subscriber_ref] = (download_kbps, upload_kbps)

    @property
    def words(self) -> list[str]:
        """What the controller was told, in order."""
        return [f"{what} {device.identity} {device.pon_port}" for what, device in self.told]
