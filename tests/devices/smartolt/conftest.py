"""An account at SmartOLT with one discovered ONU, and the driver on it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from lastmile.devices.drivers import Endpoint
from lastmile.devices.smartolt import driver
from lastmile.devices.smartolt.controller import SmartOlt
from lastmile.devstack.smartolt import SmartOltServer
from lastmile.devstack.smartolt.account import AccountOnu
from tests.devices.smartolt.lines import ONU, OPTIONS


@pytest.fixture
def server() -> Iterator[SmartOltServer]:
    with SmartOltServer() as server:
        yield server


@pytest.fixture
def onu(server: SmartOltServer) -> AccountOnu:
    """Return an ONU that its OLT has discovered."""
    return server.account.add(AccountOnu(ONU))


@pytest.fixture
async def smartolt(server: SmartOltServer) -> AsyncIterator[SmartOlt]:
    async with driver.open(Endpoint(server.url, secret="correct"), OPTIONS) as controller:
        yield controller
