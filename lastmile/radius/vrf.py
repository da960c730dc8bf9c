"""The RADIUS reply attribute that names a session's VRF. No RFC defines such an attribute: each vendor has its own."""

from dataclasses import dataclass

__all__ = ["VrfAttribute"]

_PLACEHOLDER = "{vrf}"


@dataclass(frozen=True, slots=True)
class VrfAttribute:
    """An attribute and the template of its value, such as `Cisco-AVPair` and `ip:vrf-id={vrf}`."""

    name: str
    template: str
    """The value, with `{vrf}` as the placeholder of the VRF's name."""

    @classmethod
    def parse(cls, setting: str) -> "VrfAttribute":
        """Parse `NAME=VALUE`, with `{vrf}` once in VALUE.

        Raises:
            ValueError: the text has another form.
        """
        name, _, template = setting.partition("=")
        if not name.strip() or template.count(_PLACEHOLDER) != 1:
            raise ValueError("must be NAME=VALUE with {vrf} once in VALUE, as in ERX-Virtual-Router-Name={vrf}")
        return cls(name.strip(), template.strip())

    def item(self, vrf: str) -> tuple[str, str]:
        """Return the attribute and its value for the VRF `vrf`."""
        return self.name, self.template.replace(_PLACEHOLDER, vrf)

    @property
    def pattern(self) -> str:
        """Return the SQL LIKE pattern that matches every value of this template."""
        before, _, after = self.template.partition(_PLACEHOLDER)
        return f"{_escape(before)}%{_escape(after)}"


def _escape(part: str) -> str:
    for sign in "\\%_":  # the special characters of LIKE
        part = part.replace(sign, f"\\{sign}")
    return part
