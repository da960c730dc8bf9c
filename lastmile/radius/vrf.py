"""The RADIUS reply attribute that names a session's VRF. No RFC defines one, so each vendor has its own."""

from dataclasses import dataclass

__all__ = ["VrfAttribute"]

_PLACE = "{vrf}"


@dataclass(frozen=True, slots=True)
class VrfAttribute:
    """An attribute and the form of its value, such as `Cisco-AVPair` and `ip:vrf-id={vrf}`."""

    name: str
    template: str
    """The value, with `{vrf}` in place of the VRF's name."""

    @classmethod
    def parse(cls, setting: str) -> "VrfAttribute":
        """Read `NAME=VALUE`, with `{vrf}` in VALUE. Raises `ValueError`."""
        name, _, template = setting.partition("=")
        if not name.strip() or template.count(_PLACE) != 1:
            raise ValueError("must be NAME=VALUE with {vrf} once in VALUE, as in ERX-Virtual-Router-Name={vrf}")
        return cls(name.strip(), template.strip())

    def item(self, vrf: str) -> tuple[str, str]:
        """The attribute and its value for the VRF of this name."""
        return self.name, self.template.replace(_PLACE, vrf)

    @property
    def pattern(self) -> str:
        """The values of this form, as a pattern of SQL's LIKE."""
        before, _, after = self.template.partition(_PLACE)
        return f"{_escaped(before)}%{_escaped(after)}"


def _escaped(part: str) -> str:
    for sign in "\\%_":  # LIKE's own
        part = part.replace(sign, f"\\{sign}")
    return part
