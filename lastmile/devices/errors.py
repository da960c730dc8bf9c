"""The failures of device controllers."""

from lastmile.errors import LastmileError, NonRetryableError, OutageError

__all__ = [
    "AmbiguousDeviceError",
    "ControllerRefusedError",
    "ControllerUnavailableError",
    "DeviceNotSeenError",
]


class ControllerUnavailableError(OutageError):
    """The controller does not answer, is busy, refuses our credentials, or its answer makes no sense."""


class DeviceNotSeenError(LastmileError):
    """The controller has never seen the device: an ONU before the technician's visit, a CPE that was never plugged in.

    A step takes it as a device that waits.
    """


class ControllerRefusedError(NonRetryableError):
    """The controller or the device refuses the change: no repeated call can help."""


class AmbiguousDeviceError(NonRetryableError):
    """Several devices at the controller match what the order says of the device."""
