"""The driver behind the entry point `genieacs`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lastmile.devices.drivers import Endpoint
from lastmile.devices.genieacs.controller import GenieAcs
from lastmile.devices.genieacs.nbi import Nbi
from lastmile.devices.genieacs.options import GenieAcsOptions
from lastmile.devices.records import DeviceKind

__all__ = ["kind", "open", "options"]

kind = DeviceKind.CPE
options = GenieAcsOptions


@asynccontextmanager
async def open(endpoint: Endpoint, options: GenieAcsOptions) -> AsyncIterator[GenieAcs]:
    """Return a client of the GenieACS whose NBI is at the endpoint, or a proxy before it.

    The login goes to the proxy: a user name with a password, or the secret alone as a bearer token.

    Raises:
        ControllerUnavailableError: the file with the certificates cannot be used.
    """
    nbi = Nbi(endpoint)
    try:
        yield GenieAcs(nbi, options)
    finally:
        await nbi.close()
