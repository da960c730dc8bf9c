"""Values and helpers for tests of the NetBox client."""

import traceback
from collections.abc import Awaitable
from ipaddress import ip_network

import pytest

from ipam.lifecycle import State
from ipam.netbox import NetBox, Stamp
from ipam.netbox.errors import (
    NetBoxError,
)

__all__ = ["HTML", "JSON", "NOBODY", "POOL", "PREFIXES", "STAMP", "failing", "prefixes_below"]

STAMP = Stamp(
    key="acme/S-1/ipv6_pd/o1", subscriber_ref="S-1", state=State.ALLOCATED, tenant="acme", link="https://x/S-1"
)
POOL = ip_network("2001:db8::/32")
PREFIXES = "/api/ipam/prefixes/"
NOBODY = "http://127.0.0.1:1"
HTML = "Content-Type: text/html"
JSON = "Content-Type: application/json"


async def failing(call: Awaitable[object], secret: str) -> NetBoxError:
    """Return the failure of the call. It must not contain the secret, nor an original exception that may contain it."""
    with pytest.raises(NetBoxError) as caught:
        await call
    failure = caught.value
    assert secret not in "".join(traceback.format_exception(failure))
    assert failure.__cause__ is None
    assert failure.__context__ is None
    assert "\n" not in str(failure)
    return failure


async def prefixes_below(netbox: NetBox) -> list[str]:
    """Return the prefixes below the pool, in order of creation."""
    return [str(one.prefix) async for one in netbox.records(vrf_id=None, within=POOL)]
