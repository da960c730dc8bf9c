"""The devices that a controller is responsible for."""

from dataclasses import dataclass

from lastmile.devices.controllers import LineDevice
from lastmile.devices.records import DeviceKind

__all__ = ["Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenant, and the OLTs or the models of devices, that a controller is responsible for."""

    kind: DeviceKind
    tenant: str | None = None
    """None: every tenant."""
    olts: frozenset[str] = frozenset()
    """The OLTs whose ONUs are meant; empty: any OLT."""
    models: frozenset[str] = frozenset()
    """The OUIs, as in `001A2B`, or product classes of the CPEs that are meant; empty: any CPE."""

    def precedence(self, device: LineDevice) -> tuple[bool, int] | None:
        """Return the rank among the scopes that have the device; None: the device is in another scope.

        A scope of one tenant goes first, and among those a scope that names the OLT or the model. A product class goes
        before an OUI.
        """
        if self.tenant not in (None, device.tenant):
            return None
        names = [device.olt] if self.kind is DeviceKind.ONU else [_oui(device), device.product_class]
        matches = [rank for rank, name in enumerate(names, 1) if name in self._named]
        if self._named and not matches:
            return None
        return self.tenant is not None, max(matches, default=0)

    def competes_with(self, other: "Scope") -> bool:
        """Return whether some device is in both scopes with the same rank."""
        if (self.kind, self.tenant) != (other.kind, other.tenant):
            return False
        return self._named == other._named or bool(self._named & other._named)

    def __str__(self) -> str:
        named = f"{'OLT' if self.olts else 'model'} {', '.join(sorted(self._named))}" if self._named else "all devices"
        return f"{named} of {f'tenant {self.tenant}' if self.tenant else 'all tenants'}"

    @property
    def _named(self) -> frozenset[str]:
        return self.olts if self.kind is DeviceKind.ONU else self.models


def _oui(device: LineDevice) -> str:
    """Return the OUI of the order, or else the first three octets of the MAC address (IEEE MA-L)."""
    return device.oui or device.identity[:8].replace(":", "").upper()
