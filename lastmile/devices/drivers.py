"""Drivers of device controllers: Lastmile's and an ISP's own, each behind an entry point of the group `GROUP`.

A driver is a module or an object with the attributes of `Driver`. `tests/devices/contract/` has the suite that every
driver passes.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from lastmile.devices.controllers import Controller
from lastmile.devices.records import DeviceKind

__all__ = ["GROUP", "Driver", "Endpoint"]

GROUP = "lastmile.controllers"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a controller answers, and how it is asked."""

    url: str
    username: str = ""
    secret: str = field(default="", repr=False)
    """The password, or the token."""
    ca_file: Path | None = None
    """The certificates that sign the controller's, in PEM; None: those of the system."""
    timeout_seconds: float = 10
    """How long one request may take."""
    in_flight: int = 8
    """The most requests at once."""


class Driver(Protocol):
    """A kind of controller that Lastmile can talk to."""

    kind: DeviceKind
    """The devices that it controls."""
    options: type[BaseModel]
    """What an operator configures beside the endpoint."""

    def open(self, endpoint: Endpoint, options: Any) -> AbstractAsyncContextManager[Controller]:
        """Return a client of the controller; `options` is an instance of the model. Entering asks nothing yet."""
