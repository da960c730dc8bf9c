"""The options of a pool in NetBox, which `lastmile pool add` and `lastmile pool set` have in common."""

from typing import Any

from ipam.modes import AllocationMode
from lastmile.errors import InvalidInputError

__all__ = ["NETBOX_OPTIONS", "NOT_FOUND_YET", "check_mode"]

NETBOX_OPTIONS = {
    "netbox.direct": "--netbox",
    **{
        f"netbox.{mode}.{field}": f"--{field.replace('_', '-')}"
        for mode in AllocationMode
        for field in ("on_release", "record", "block_length")
    },
}
"""The option of each field of a mode."""

NOT_FOUND_YET: dict[str, Any] = {"prefix_id": 0}
"""The id in NetBox, before it is looked up."""


def check_mode(mode: str) -> None:
    """Raise `InvalidInputError` unless a pool in NetBox can have this mode."""
    if mode not in (AllocationMode.DIRECT, AllocationMode.DELEGATED):
        raise InvalidInputError(f"--netbox: must be 'direct' or 'delegated', and is {mode!r}")
