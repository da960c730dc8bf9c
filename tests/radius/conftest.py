"""A client and a scripted NAS on a socket, for each test."""

from collections.abc import AsyncIterator

import pytest

from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization, Session


@pytest.fixture
async def nas() -> AsyncIterator[ScriptedNas]:
    """A NAS with the open session `session`."""
    attributes = {"User-Name": "line-7@isp.example", "Framed-IP-Address": "198.51.100.7"}
    async with ScriptedNas(b"a shared secret", sessions={"4F0C-01": attributes}) as scripted:
        yield scripted


@pytest.fixture
async def patient() -> AsyncIterator[DynamicAuthorization]:
    """A client for tests with a reply: it sends once, and waits long."""
    async with DynamicAuthorization(timeout=30, tries=1, in_flight=64) as client:
        yield client


@pytest.fixture
async def hasty() -> AsyncIterator[DynamicAuthorization]:
    """A client for tests without a reply: it sends twice, and gives up at once."""
    async with DynamicAuthorization(timeout=0.1, tries=2, in_flight=64) as client:
        yield client


@pytest.fixture
def session() -> Session:
    return Session("line-7@isp.example", "4F0C-01", "192.0.2.1", framed_ip="198.51.100.7")
