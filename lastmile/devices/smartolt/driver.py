"""The driver behind the entry point `smartolt`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lastmile.devices.drivers import Endpoint
from lastmile.devices.records import DeviceKind
from lastmile.devices.smartolt.api import SmartOltApi
from lastmile.devices.smartolt.budget import CallBudget
from lastmile.devices.smartolt.controller import SmartOlt
from lastmile.devices.smartolt.options import SmartOltOptions

__all__ = ["kind", "open", "options"]

kind = DeviceKind.ONU
options = SmartOltOptions


@asynccontextmanager
async def open(endpoint: Endpoint, options: SmartOltOptions) -> AsyncIterator[SmartOlt]:
    """Return a client of the account at `https://ACCOUNT.smartolt.com`; the secret is its API key.

    Raises:
        ControllerUnavailableError: the file with the certificates cannot be used.
    """
    api = SmartOltApi(endpoint, CallBudget(options.calls_per_hour))
    try:
        yield SmartOlt(api, options)
    finally:
        await api.close()
