"""The NetBox versions that a test is run against: those of the stand-in, or that of the real NetBox."""

import os

import pytest

from lastmile.devstack.netbox.versions import V4_4, V4_6, VERSIONS
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
"""For a test that uses the fixture `version`, and with it `standin`, `peer` or `netbox`."""

on_4_6 = pytest.mark.parametrize("version", [one for one in _versions() if one == V4_6.api], indirect=True)
"""As `each_version`, for what only NetBox 4.6 has."""
