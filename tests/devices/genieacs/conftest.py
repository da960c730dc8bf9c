"""A GenieACS with two CPEs, and the driver on it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from lastmile.devices.drivers import Endpoint
from lastmile.devices.genieacs import driver
from lastmile.devices.genieacs.controller import GenieAcs
from lastmile.devices.genieacs.options import GenieAcsOptions
from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.cpe import Cpe
from lastmile.devstack.genieacs.cpe_models import tr_098_cpe, tr_181_cpe


@pytest.fixture
def server() -> Iterator[GenieAcsServer]:
    with GenieAcsServer() as server:
        yield server


@pytest.fixture
def cpe(server: GenieAcsServer) -> Cpe:
    """Return a CPE of TR-181 that has informed, whose product class contains a hyphen."""
    cpe = tr_181_cpe("CPE000001", mac="02:00:00:00:00:AB")
    server.acs.add(cpe)
    return cpe


@pytest.fixture
def old_cpe(server: GenieAcsServer) -> Cpe:
    """Return a CPE of TR-098 that has informed."""
    cpe = tr_098_cpe("CPE000002", mac="02:00:00:00:00:02")
    server.acs.add(cpe)
    return cpe


@pytest.fixture
async def genieacs(server: GenieAcsServer) -> AsyncIterator[GenieAcs]:
    async with driver.open(Endpoint(server.url), GenieAcsOptions()) as controller:
        yield controller
