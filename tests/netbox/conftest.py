"""Fixtures with a NetBox: the real one that `NETBOX_URL` and `NETBOX_TOKEN` name, or the stand-in."""

import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from ipam.netbox import NetBox
from ipam.netbox.requirements import check, set_up
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.model.versions import V4_4, VERSIONS, Version
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import DirectEnv
from tests.support.netbox_peer import Peer


@pytest.fixture
def version(request: pytest.FixtureRequest) -> Version:
    """Return the version of NetBox that the stand-in simulates; see `tests.netbox.versions`."""
    return VERSIONS[getattr(request, "param", V4_4.api)]


@pytest.fixture
def netbox_server(version: Version) -> Iterator[NetBoxServer]:
    """Run an empty stand-in."""
    with NetBoxServer(version=version) as server:
        yield server


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Return a client of the real NetBox, or of the stand-in; delete afterwards what the test created."""
    url, token = os.environ.get("NETBOX_URL"), os.environ.get("NETBOX_TOKEN")
    if url and not token:
        pytest.fail("NETBOX_URL is set and NETBOX_TOKEN is not: see docs/development/netbox-stand-in.md", pytrace=False)
    if url and token:
        peer = Peer(url, token)
    else:
        server = request.getfixturevalue("netbox_server")
        peer = Peer(server.url, server.token)
    try:
        yield peer
    finally:
        peer.clean_up()


@pytest.fixture
async def netbox(netbox_server: NetBoxServer) -> AsyncIterator[NetBox]:
    """Return a client of a stand-in that is set up, with tenant `acme`."""
    async with NetBox(netbox_server.url, netbox_server.token) as client:
        await set_up(client.wire, await check(client.wire, tenants={"acme": "Acme Broadband"}))
        yield client


@pytest.fixture
async def direct_env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer
) -> AsyncIterator[DirectEnv]:
    """Return an environment for direct pools."""
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture
async def delegated_env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer
) -> AsyncIterator[DelegatedEnv]:
    """Return an environment for delegated pools."""
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env
