"""Reads: look-ups by key, prefix and time, and lists of any length."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from ipam.errors import InvalidPoolError
from ipam.lifecycle import State
from ipam.netbox import NetBox
from ipam.netbox.binding import resolve_prefix
from ipam.netbox.errors import (
    NetBoxNotReadyError,
)
from ipam.netbox.requirements import check
from lastmile.devstack.netbox import NetBoxServer
from tests.support.netbox_calls import PREFIXES, STAMP, failing
from tests.support.netbox_peer import Peer


@pytest.mark.parametrize("largest", [1, 2, 1000])
async def test_lists_are_read_to_the_end_for_any_page_size(
    netbox: NetBox, netbox_server: NetBoxServer, other_user: Peer, largest: int
) -> None:
    """The custom fields of other teams come first, and one of them is required."""
    for n in range(3):
        other_user.create("/api/extras/custom-fields/", name=f"a{n}", type="text", object_types=["ipam.prefix"])
        other_user.create("/api/ipam/vrfs/", name="access")
    other_user.create("/api/extras/custom-fields/", name="z", type="text", object_types=["ipam.prefix"], required=True)
    made = [
        other_user.create(PREFIXES, prefix=f"2001:db8:{n}::/56", custom_fields={"z": "1"})["id"] for n in range(1, 5)
    ]
    netbox_server.store.max_page_size = largest
    problems = [one.problem for one in await check(netbox.wire, tenants={"acme": "Acme Broadband"}) if one.problem]
    assert problems == ["z is required, so NetBox refuses a prefix without it"]
    assert [one.id for one in await netbox.by_ids(made)] == made
    assert [one.id async for one in netbox.records(vrf_id=None)] == made
    with pytest.raises(InvalidPoolError, match="3 VRFs named 'access'"):
        await resolve_prefix(netbox, ip_network("2001:db8::/40"), "access")


async def test_resolve_prefix_with_two_records_names_both(netbox: NetBox, other_user: Peer) -> None:
    """A VRF without uniqueness, or the setting ENFORCE_GLOBAL_UNIQUE = False, permits this."""
    vrf = other_user.create("/api/ipam/vrfs/", name="access", enforce_unique=False)["id"]
    first, second = (other_user.create(PREFIXES, prefix="2001:db8::/40", vrf=vrf)["id"] for _ in range(2))
    with pytest.raises(
        InvalidPoolError, match=rf"more than once \(#{first}, #{second}\): delete all but one in NetBox"
    ):
        await resolve_prefix(netbox, ip_network("2001:db8::/40"), "access")


async def test_find_without_the_custom_field_is_refused(netbox_server: NetBoxServer, other_user: Peer) -> None:
    """NetBox ignores an unknown filter and lists everything."""
    other_user.create(PREFIXES, prefix="2001:db8::/56")
    async with NetBox(netbox_server.url, netbox_server.token) as client:
        failure = await failing(client.find("k"), netbox_server.token)
    assert type(failure) is NetBoxNotReadyError
    assert "lastmile netbox check" in str(failure)


async def test_find_with_a_loose_filter_returns_no_other_key(netbox: NetBox, parent: int, other_user: Peer) -> None:
    [field] = other_user.found("/api/extras/custom-fields/?name=lastmile_key")
    ten = await netbox.available(parent, 56, replace(STAMP, key="S-10"))
    other_user.send("PATCH", f"/api/extras/custom-fields/{field['id']}/", {"filter_logic": "loose"})
    with pytest.raises(NetBoxNotReadyError):
        await netbox.find("S-1")
    one = await netbox.available(parent, 56, replace(STAMP, key="S-1"))
    assert await netbox.find("S-1") == one
    assert await netbox.find("S-10") == ten


async def test_records_read_while_others_are_deleted_are_complete(
    netbox: NetBox, parent: int, other_user: Peer
) -> None:
    made = [await netbox.available(parent, 56, replace(STAMP, key=f"k{number}")) for number in range(5)]
    other_user.create(PREFIXES, prefix="2001:db9::/56")
    seen = []
    async for one in netbox.records(vrf_id=None, ours=True, page=2):
        seen.append(one)
        await netbox.delete(one.id)
    assert seen == made


async def test_records_since_a_time_are_the_changed_ones(netbox: NetBox, parent: int) -> None:
    made = [await netbox.available(parent, 56, replace(STAMP, key=f"k{number}")) for number in range(3)]
    moment = datetime.now(UTC)
    await netbox.update(made[1].id, replace(STAMP, key="k1", state=State.ACTIVE))
    found: list[Any] = [one.id async for one in netbox.records(vrf_id=None, ours=True, updated_since=moment)]
    assert found == [made[1].id]
    assert [one.id async for one in netbox.records(vrf_id=None, prefix=made[2].prefix)] == [made[2].id]
