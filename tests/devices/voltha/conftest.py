"""A stand-in for VOLTHA's core on a socket, with one OLT and one ONU, and the driver's client of it."""

from collections.abc import AsyncIterator

import pytest

from lastmile.devices.drivers import Endpoint
from lastmile.devices.voltha import driver
from lastmile.devices.voltha.controller import VolthaController
from lastmile.devices.voltha.options import VolthaOptions
from lastmile.devstack.voltha import VolthaModel, VolthaServer
from tests.devices.voltha.lines import ONU, SETTLED


@pytest.fixture
async def server() -> AsyncIterator[VolthaServer]:
    async with VolthaServer() as running:
        running.model.add_olt()
        running.model.plug_in(ONU)
        yield running


@pytest.fixture
async def model(server: VolthaServer) -> VolthaModel:
    return server.model


@pytest.fixture
async def controller(server: VolthaServer) -> AsyncIterator[VolthaController]:
    async with driver.open(Endpoint(server.url), VolthaOptions(settle_seconds=SETTLED)) as client:
        yield client
