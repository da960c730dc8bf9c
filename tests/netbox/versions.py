"""The versions of NetBox that a test runs against: those of the stand-in, or that of the real NetBox."""

import os

import pytest

from lastmile.devstack.netbox.model.versions import V4_4, V4_6, VERSIONS
from tests.support.netbox_peer import Peer

__all__ = ["each_version", "on_4_6"]


def _versions() -> list[str]:
    url, token = os.environ.get("NETBOX_URL"), os.environ.get("NETBOX_TOKEN")
    if not url or not token:
        return sorted(VERSIONS)
    number = Peer(url, token).send("GET", "/api/status/").json()["netbox-version"]
    api = ".".join(number.split(".")[:2])
    return [api if api in VERSIONS else V4_4.api if api < V4_4.api else V4_6.api]


each_version = pytest.mark.parametrize("version", _versions(), indirect=True)
"""Run the test for each version. It must use the fixture `version`, and may use `netbox_server`, `peer`, `netbox`."""

on_4_6 = pytest.mark.parametrize("version", [one for one in _versions() if one == V4_6.api], indirect=True)
"""Run the test for NetBox 4.6 only."""
