"""Fixtures for tests of the NetBox client."""

import pytest

from ipam.netbox import NetBox
from lastmile.devstack.netbox import NetBoxServer
from tests.support.netbox_calls import POOL, PREFIXES
from tests.support.netbox_peer import Peer


@pytest.fixture
def other_user(netbox_server: NetBoxServer) -> Peer:
    """Return a client of another user of the same NetBox."""
    return Peer(netbox_server.url, netbox_server.token)


@pytest.fixture
async def parent(netbox: NetBox, other_user: Peer) -> int:
    return int(other_user.create(PREFIXES, prefix=str(POOL), status="container")["id"])
