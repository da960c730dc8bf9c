"""The requirements on NetBox: the check reports what is missing; the set-up creates it and changes nothing else."""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from ipam.lifecycle import State
from ipam.netbox import NetBox, Stamp
from ipam.netbox.errors import NetBoxAuthorizationError, NetBoxNotReadyError, NetBoxUnavailableError
from ipam.netbox.requirements import Finding, PoolPrefix, check, set_up
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import NO_FAULT, proxy
from lastmile.devstack.netbox.model.versions import V4_4
from tests.support.netbox_peer import Peer

FIELDS = "/api/extras/custom-fields/"
PREFIXES = "/api/ipam/prefixes/"
STAMP = Stamp(key="k", subscriber_ref="S-1", state=State.ALLOCATED)
ACTIONS = ("view", "add", "change", "delete")


@pytest.fixture
async def bare(netbox_server: NetBoxServer) -> AsyncIterator[NetBox]:
    """Return a client of a NetBox without any set-up."""
    async with NetBox(netbox_server.url, netbox_server.token) as client:
        yield client


def lacking(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.problem]


async def the_one(netbox: NetBox, **options: Any) -> Finding:
    """Return the only unmet requirement, which the set-up cannot create."""
    [finding] = lacking(await check(netbox.wire, **options))
    assert finding.remedy
    assert finding.creation is None
    return finding


async def test_setup_creates_every_missing_requirement_once(bare: NetBox, other_user: Peer) -> None:
    tenants = {"acme": "Acme Broadband", "other": "Other"}
    found = await check(bare.wire, tenants=tenants)
    missing = lacking(found)
    assert [finding.requirement.partition(" of ")[0] for finding in missing] == [
        "custom field lastmile_key",
        "custom field lastmile_subscriber",
        "custom field lastmile_state",
        "custom field lastmile_link",
        "custom field lastmile_used",
        "custom field lastmile_size",
        "tag lastmile",
        "tenant acme",
        "tenant other",
    ]
    assert {finding.problem for finding in missing} == {"missing"}
    assert await set_up(bare.wire, found) == missing
    again = await check(bare.wire, tenants=tenants)
    assert lacking(again) == []
    assert await set_up(bare.wire, again) == []
    [key] = other_user.found(f"{FIELDS}?name=lastmile_key")
    assert (key["type"]["value"], key["unique"], key["filter_logic"]["value"]) == ("text", True, "exact")
    assert key["object_types"] == ["ipam.prefix"]
    [acme] = other_user.found("/api/tenancy/tenants/?slug=acme")
    assert acme["name"] == "Acme Broadband"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"unique": False}, "it is not unique"),
        ({"filter_logic": "loose"}, "its filter logic is loose"),
        ({"filter_logic": "disabled"}, "its filter logic is disabled"),
        ({"type": "integer"}, "its type is integer"),
        ({"object_types": ["ipam.ipaddress"]}, "it is not for prefixes but for ipam.ipaddress"),
        ({"validation_regex": "^[0-9]+$"}, "it has a validation regex"),
    ],
)
async def test_custom_field_with_wrong_options_is_reported_and_kept(
    bare: NetBox, other_user: Peer, wrong: dict[str, Any], words: str
) -> None:
    right = {"type": "text", "unique": True, "filter_logic": "exact", "object_types": ["ipam.prefix"]}
    other_user.create(FIELDS, name="lastmile_key", **(right | wrong))
    before = other_user.found(f"{FIELDS}?name=lastmile_key")
    await set_up(bare.wire, await check(bare.wire))
    finding = await the_one(bare)
    assert words in finding.problem
    assert other_user.found(f"{FIELDS}?name=lastmile_key") == before
    with pytest.raises(NetBoxNotReadyError, match=words):
        await bare.create(ip_network("2001:db8::/56"), vrf_id=None, stamp=STAMP)
    assert other_user.found(PREFIXES) == []


async def test_setup_only_creates_objects(bare: NetBox, other_user: Peer) -> None:
    other_user.create("/api/extras/tags/", name="Last Mile", slug="lastmile", color="ff0000")
    other_user.create(FIELDS, name="lastmile_state", type="integer", object_types=["ipam.prefix"])
    await set_up(bare.wire, await check(bare.wire))
    changes = other_user.found("/api/core/object-changes/")
    assert {change["action"]["value"] for change in changes} == {"create"}
    assert len(changes) == 2 + 5  # its own, and ours


@pytest.mark.parametrize("default", [None, "EU"])
async def test_check_with_a_required_field_of_others_reports_it(
    netbox: NetBox, other_user: Peer, default: str | None
) -> None:
    other_user.create(FIELDS, name="note", type="text", object_types=["ipam.prefix"])
    other_user.create(FIELDS, name="owner", type="text", object_types=["ipam.ipaddress"], required=True)
    assert lacking(await check(netbox.wire)) == []
    other_user.create(FIELDS, name="region", type="text", object_types=["ipam.prefix"], required=True, default=default)
    assert "region is required" in (await the_one(netbox)).problem


async def test_tag_not_allowed_on_prefixes_is_reported(netbox: NetBox, other_user: Peer) -> None:
    [tag] = other_user.found("/api/extras/tags/?slug=lastmile")
    other_user.send("PATCH", f"/api/extras/tags/{tag['id']}/", {"object_types": ["ipam.vrf"]})
    assert (await the_one(netbox)).problem == "it may only be given to ipam.vrf"


def token(other_user: Peer, actions: tuple[str, ...], *, write_enabled: bool = True, see: bool = True) -> str:
    """Return a token with these permissions on prefixes; with `see`, also to view custom fields, tags and tenants."""
    key = other_user.token_for(*actions, write_enabled=write_enabled)
    newest = max(user["id"] for user in other_user.found("/api/users/users/"))
    kinds = ["extras.customfield", "extras.tag", "tenancy.tenant"]
    if see:
        other_user.create("/api/users/permissions/", name=key, object_types=kinds, actions=["view"], users=[newest])
    return key


@pytest.mark.parametrize(
    ("actions", "write_enabled", "refused"),
    [
        (ACTIONS, True, ()),
        *[(tuple(other for other in ACTIONS if other != action), True, (action,)) for action in ACTIONS],
        (ACTIONS, False, ("add", "change", "delete")),
    ],
)
async def test_missing_permissions_are_reported(
    netbox_server: NetBoxServer,
    netbox: NetBox,
    other_user: Peer,
    actions: tuple[str, ...],
    write_enabled: bool,
    refused: tuple[str, ...],
) -> None:
    before = await netbox.create(ip_network("2001:db8::/56"), vrf_id=None, stamp=STAMP)
    async with NetBox(netbox_server.url, token(other_user, actions, write_enabled=write_enabled)) as client:
        found = lacking(await check(client.wire))
    assert [finding.requirement for finding in found] == [f"permission to {action} prefixes" for action in refused]
    for finding, action in zip(found, refused, strict=True):
        assert f"grant the token's user `{action}` on ipam.prefix" in finding.remedy
    assert [one async for one in netbox.records(vrf_id=None)] == [before]


async def test_token_that_may_not_read_custom_fields_is_reported(
    netbox_server: NetBoxServer, netbox: NetBox, other_user: Peer
) -> None:
    async with NetBox(netbox_server.url, token(other_user, ACTIONS, see=False)) as client:
        found = lacking(await check(client.wire))
    assert [finding.requirement for finding in found] == ["permissions", "permissions"]
    refusal = "(You do not have permission to perform this action.)"
    assert [finding.problem for finding in found] == [
        f"NetBox does not let the token do GET {kind} {refusal}" for kind in ("extras/custom-fields", "extras/tags")
    ]


async def test_unknown_token_is_reported(netbox_server: NetBoxServer) -> None:
    async with NetBox(netbox_server.url, "f" * 40) as client:
        finding = await the_one(client)
        with pytest.raises(NetBoxAuthorizationError) as failure:
            await client.require()
    assert finding.requirement == "token"
    assert finding.problem == "NetBox does not accept the token (Invalid token)"
    assert "NETBOX_TOKEN" in finding.remedy
    assert str(failure.value) == f"{finding.problem}: {finding.remedy}"


@pytest.mark.parametrize(
    ("version", "met"),
    [("4.0.11", False), ("3.7.8", False), ("v4.1.0-Docker-3.0", True), ("4.10.1", True), ("5.0.0", True)],
)
async def test_unsupported_version_is_reported(version: str, met: bool) -> None:
    with NetBoxServer(version=replace(V4_4, number=version)) as server:
        async with NetBox(server.url, server.token) as client:
            if met:
                found = await check(client.wire)
                assert not found[0].problem
                assert len(found) > 1
            else:
                finding = await the_one(client)  # nothing else is read: its format differs there
                assert finding.problem == f"this is {version}"
                assert "tested: 4.4 and 4.6" in finding.requirement


async def test_pool_prefix_changed_in_netbox_is_reported(netbox: NetBox, other_user: Peer) -> None:
    vrf = int(other_user.create("/api/ipam/vrfs/", name="access")["id"])
    made = other_user.create(PREFIXES, prefix="2001:db8::/32", vrf=vrf)
    home = PoolPrefix(name="home", netbox_id=made["id"], prefix=ip_network("2001:db8::/32"), vrf_id=vrf)
    assert lacking(await check(netbox.wire, [home])) == []

    other_user.send("PATCH", f"{PREFIXES}{made['id']}/", {"prefix": "2001:db8::/33"})
    assert (await the_one(netbox, pools=[home])).problem == "it is 2001:db8::/33 now"
    assert (await the_one(netbox, pools=[replace(home, prefix=ip_network("2001:db8::/33"), vrf_id=None)])).problem == (
        "it is in VRF access now"
    )
    other_user.send("PATCH", f"{PREFIXES}{made['id']}/", {"prefix": "2001:db8::/32", "vrf": None})
    assert (await the_one(netbox, pools=[home])).problem == "it is in the global table now"
    other_user.send("DELETE", f"{PREFIXES}{made['id']}/")
    finding = await the_one(netbox, pools=[home])
    assert finding.requirement.startswith("pool home: prefix 2001:db8::/32 in VRF #")
    assert finding.problem.startswith("not visible to the token: it was deleted, or a constraint")


async def test_first_write_waits_for_a_successful_check(netbox_server: NetBoxServer, bare: NetBox) -> None:
    netbox_server.faults.chance(NO_FAULT, 1, path="/api/status/")  # counts
    prefix = ip_network("2001:db8::/56")
    for _ in range(2):
        with pytest.raises(NetBoxNotReadyError, match=r"custom field lastmile_key.*: missing.*tag lastmile: missing"):
            await bare.create(prefix, vrf_id=None, stamp=STAMP)
    await set_up(bare.wire, await check(bare.wire))
    looked = netbox_server.faults.met[NO_FAULT]
    made = await bare.create(prefix, vrf_id=None, stamp=STAMP)
    await bare.available(made.id, 64, replace(STAMP, key="k2"))
    assert netbox_server.faults.met[NO_FAULT] == looked + 1


async def test_check_after_an_outage_is_repeated(netbox_server: NetBoxServer, netbox: NetBox) -> None:
    netbox_server.faults.next(proxy(503, retry_after=60), path="/api/status/")
    with pytest.raises(NetBoxUnavailableError):
        await netbox.require()
    await netbox.require()
