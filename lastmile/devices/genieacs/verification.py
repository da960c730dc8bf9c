"""Compare what GenieACS knows of a CPE, after a session, with what the CPE should have."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lastmile.devices.genieacs.nbi import Document
from lastmile.devices.genieacs.options import Value

__all__ = ["Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Verification:
    """The parameters that are not as they should be, by their paths."""

    not_settable: tuple[str, ...]
    """The CPE does not have the parameter, or does not let the ACS write it. GenieACS skips such a parameter."""
    not_applied: tuple[str, ...]
    """The value differs, or is older than the read task: it is GenieACS's own copy, which the CPE may have lost."""

    @property
    def holds(self) -> bool:
        """Whether every parameter is as it should be."""
        return not self.not_settable and not self.not_applied


def verify(expected: Mapping[str, Value], device: Document, read_at: datetime) -> Verification:
    """Compare the parameters of a device document with the expected values.

    Args:
        read_at: the timestamp of the read task. Both timestamps are of GenieACS's clock, so they are compared exactly.
    """
    not_settable: list[str] = []
    not_applied: list[str] = []
    for path, value in expected.items():
        parameter = _parameter(device, path)
        if parameter is None:
            not_settable.append(path)
        elif parameter["_value"] != value:
            (not_settable if parameter.get("_writable") is False else not_applied).append(path)
        elif not _is_read_since(parameter["_timestamp"], read_at):
            not_applied.append(path)
    return Verification(tuple(not_settable), tuple(not_applied))


def _parameter(device: Document, path: str) -> Document | None:
    node: Any = device
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node if isinstance(node, dict) and {"_value", "_timestamp"} <= node.keys() else None


def _is_read_since(timestamp: Any, read_at: datetime) -> bool:
    try:
        return datetime.fromisoformat(timestamp) >= read_at
    except (TypeError, ValueError):  # no timestamp, so no proof
        return False
