"""The NetBox that the contract tests talk to: the one that `NETBOX_URL` and `NETBOX_TOKEN` name, or the stand-in."""

import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from ipam.netbox import NetBox
from ipam.netbox.requirements import check, set_up
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.versions import V4_4, VERSIONS, Version
from tests.support.delegated_env import Delegated
from tests.support.direct_env import Kept
from tests.support.netbox_peer import Peer


@pytest.fixture
def version(request: pytest.FixtureRequest) -> Version:
    """The NetBox that is played; see `tests.netbox.versions`."""
    return VERSIONS[getattr(request, "param", V4_4.api)]


@pytest.fixture
def standin(version: Version) -> Iterator[NetBoxServer]:
    """An empty stand-in."""
    with NetBoxServer(version=version) as server:
        yield server


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """A real NetBox where one is named; what the test makes there is removed."""
    url, token = os.environ.get("NETBOX_URL"), os.environ.get("NETBOX_TOKEN")
    if url and not token:
        pytest.fail("NETBOX_URL is set and NETBOX_TOKEN is not: see docs/development/netbox-stand-in.md", pytrace=False)
    if url and token:
        peer = Peer(url, token)
    else:
        server = request.getfixturevalue("standin")
        peer = Peer(server.url, server.token)
    try:
        yield peer
    finally:
        peer.clean_up()


@pytest.fixture
async def netbox(standin: NetBoxServer) -> AsyncIterator[NetBox]:
    """A client of the stand-in, which has what Lastmile needs, and tenant `acme`."""
    async with NetBox(standin.url, standin.token) as client:
        await set_up(client.wire, await check(client.wire, tenants={"acme": "Acme Broadband"}))
        yield client


@pytest.fixture
async def direct(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Kept]:
    """With pools that NetBox chooses from."""
    async with Kept.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture
async def delegated(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    """With pools whose blocks are in NetBox."""
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept
