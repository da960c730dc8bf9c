"""What a NetBox must have: every lack is found and named; the set-up creates what is missing and changes nothing."""

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
from lastmile.devstack.netbox.faults import NO_FAULT, proxy
from lastmile.devstack.netbox.versions import V4_4
from tests.support.netbox_peer import Peer

FIELDS = "/api/extras/custom-fields/"
PREFIXES = "/api/ipam/prefixes/"
STAMP = Stamp(key="k", subscriber_ref="S-1", state=State.ALLOCATED)
ACTIONS = ("view", "add", "change", "delete")


@pytest.fixture
def people(standin: NetBoxServer) -> Peer:
    return Peer(standin.url, standin.token)


@pytest.fixture
async def bare(standin: NetBoxServer) -> AsyncIterator[NetBox]:
    """A client of a NetBox as it was installed."""
    async with NetBox(standin.url, standin.token) as client:
        yield client


def lacking(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.problem]


async def the_one(netbox: NetBox, **options: Any) -> Finding:
    """The only requirement that is not met, which nothing is created for."""
    [finding] = lacking(await check(netbox.wire, **options))
    assert finding.remedy
    assert finding.creation is None
    return finding


async def test_everything_that_is_missing_is_said_and_made_once(bare: NetBox, people: Peer) -> None:
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
    [key] = people.found(f"{FIELDS}?name=lastmile_key")
    assert (key["type"]["value"], key["unique"], key["filter_logic"]["value"]) == ("text", True, "exact")
    assert key["object_types"] == ["ipam.prefix"]
    [acme] = people.found("/api/tenancy/tenants/?slug=acme")
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
async def test_a_field_that_is_otherwise_is_told_and_left_alone(
    bare: NetBox, people: Peer, wrong: dict[str, Any], words: str
) -> None:
    right = {"type": "text", "unique": True, "filter_logic": "exact", "object_types": ["ipam.prefix"]}
    people.create(FIELDS, name="lastmile_key", **(right | wrong))
    before = people.found(f"{FIELDS}?name=lastmile_key")
    await set_up(bare.wire, await check(bare.wire))
    finding = await the_one(bare)
    assert words in finding.problem
    assert people.found(f"{FIELDS}?name=lastmile_key") == before
    with pytest.raises(NetBoxNotReadyError, match=words):
        await bare.create(ip_network("2001:db8::/56"), vrf_id=None, stamp=STAMP)
    assert people.found(PREFIXES) == []


async def test_the_set_up_only_creates(bare: NetBox, people: Peer) -> None:
    people.create("/api/extras/tags/", name="Last Mile", slug="lastmile", color="ff0000")
    people.create(FIELDS, name="lastmile_state", type="integer", object_types=["ipam.prefix"])
    await set_up(bare.wire, await check(bare.wire))
    changes = people.found("/api/core/object-changes/")
    assert {change["action"]["value"] for change in changes} == {"create"}
    assert len(changes) == 2 + 5  # its own, and ours


@pytest.mark.parametrize("default", [None, "EU"])
async def test_check_with_a_required_field_of_others_reports_it(
    netbox: NetBox, people: Peer, default: str | None
) -> None:
    people.create(FIELDS, name="note", type="text", object_types=["ipam.prefix"])
    people.create(FIELDS, name="owner", type="text", object_types=["ipam.ipaddress"], required=True)
    assert lacking(await check(netbox.wire)) == []
    people.create(FIELDS, name="region", type="text", object_types=["ipam.prefix"], required=True, default=default)
    assert "region is required" in (await the_one(netbox)).problem


async def test_a_tag_that_prefixes_may_not_have(netbox: NetBox, people: Peer) -> None:
    [tag] = people.found("/api/extras/tags/?slug=lastmile")
    people.send("PATCH", f"/api/extras/tags/{tag['id']}/", {"object_types": ["ipam.vrf"]})
    assert (await the_one(netbox)).problem == "it may only be given to ipam.vrf"


def token(people: Peer, actions: tuple[str, ...], *, write_enabled: bool = True, see: bool = True) -> str:
    """Of somebody who may do this with prefixes, and perhaps see what else there is."""
    key = people.token_for(*actions, write_enabled=write_enabled)
    newest = max(user["id"] for user in people.found("/api/users/users/"))
    kinds = ["extras.customfield", "extras.tag", "tenancy.tenant"]
    if see:
        people.create("/api/users/permissions/", name=key, object_types=kinds, actions=["view"], users=[newest])
    return key


@pytest.mark.parametrize(
    ("actions", "write_enabled", "refused"),
    [
        (ACTIONS, True, ()),
        *[(tuple(other for other in ACTIONS if other != action), True, (action,)) for action in ACTIONS],
        (ACTIONS, False, ("add", "change", "delete")),
    ],
)
async def test_permissions(
    standin: NetBoxServer,
    netbox: NetBox,
    people: Peer,
    actions: tuple[str, ...],
    write_enabled: bool,
    refused: tuple[str, ...],
) -> None:
    before = await netbox.create(ip_network("2001:db8::/56"), vrf_id=None, stamp=STAMP)
    async with NetBox(standin.url, token(people, actions, write_enabled=write_enabled)) as client:
        found = lacking(await check(client.wire))
    assert [finding.requirement for finding in found] == [f"permission to {action} prefixes" for action in refused]
    for finding, action in zip(found, refused, strict=True):
        assert f"grant the token's user `{action}` on ipam.prefix" in finding.remedy
    assert [one async for one in netbox.records(vrf_id=None)] == [before]


async def test_who_may_not_see_the_custom_fields(standin: NetBoxServer, netbox: NetBox, people: Peer) -> None:
    async with NetBox(standin.url, token(people, ACTIONS, see=False)) as client:
        found = lacking(await check(client.wire))
    assert [finding.requirement for finding in found] == ["permissions", "permissions"]
    refusal = "(You do not have permission to perform this action.)"
    assert [finding.problem for finding in found] == [
        f"NetBox does not let the token do GET {kind} {refusal}" for kind in ("extras/custom-fields", "extras/tags")
    ]


async def test_a_token_that_netbox_does_not_know(standin: NetBoxServer) -> None:
    async with NetBox(standin.url, "f" * 40) as client:
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
async def test_versions(version: str, met: bool) -> None:
    with NetBoxServer(version=replace(V4_4, number=version)) as server:
        async with NetBox(server.url, server.token) as client:
            if met:
                found = await check(client.wire)
                assert not found[0].problem
                assert len(found) > 1
            else:
                finding = await the_one(client)  # the rest is not asked: it has another shape there
                assert finding.problem == f"this is {version}"
                assert "tested: 4.4 and 4.6" in finding.requirement


async def test_pools(netbox: NetBox, people: Peer) -> None:
    vrf = int(people.create("/api/ipam/vrfs/", name="access")["id"])
    made = people.create(PREFIXES, prefix="2001:db8::/32", vrf=vrf)
    home = PoolPrefix(name="home", netbox_id=made["id"], prefix=ip_network("2001:db8::/32"), vrf_id=vrf)
    assert lacking(await check(netbox.wire, [home])) == []

    people.send("PATCH", f"{PREFIXES}{made['id']}/", {"prefix": "2001:db8::/33"})
    assert (await the_one(netbox, pools=[home])).problem == "it is 2001:db8::/33 now"
    assert (await the_one(netbox, pools=[replace(home, prefix=ip_network("2001:db8::/33"), vrf_id=None)])).problem == (
        "it is in VRF access now"
    )
    people.send("PATCH", f"{PREFIXES}{made['id']}/", {"prefix": "2001:db8::/32", "vrf": None})
    assert (await the_one(netbox, pools=[home])).problem == "it is in the global table now"
    people.send("DELETE", f"{PREFIXES}{made['id']}/")
    finding = await the_one(netbox, pools=[home])
    assert finding.requirement.startswith("pool home: prefix 2001:db8::/32 in VRF #")
    assert finding.problem.startswith("not visible to the token: it was deleted, or a constraint")


async def test_nothing_is_created_before_the_check_has_passed_and_then_it_is_over(
    standin: NetBoxServer, bare: NetBox
) -> None:
    standin.faults.chance(NO_FAULT, 1, path="/api/status/")  # counts
    prefix = ip_network("2001:db8::/56")
    for _ in range(2):
        with pytest.raises(NetBoxNotReadyError, match=r"custom field lastmile_key.*: missing.*tag lastmile: missing"):
            await bare.create(prefix, vrf_id=None, stamp=STAMP)
    await set_up(bare.wire, await check(bare.wire))
    looked = standin.faults.met[NO_FAULT]
    made = await bare.create(prefix, vrf_id=None, stamp=STAMP)
    await bare.available(made.id, 64, replace(STAMP, key="k2"))
    assert standin.faults.met[NO_FAULT] == looked + 1


async def test_a_netbox_that_is_away_is_looked_at_again(standin: NetBoxServer, netbox: NetBox) -> None:
    standin.faults.next(proxy(503, retry_after=60), path="/api/status/")
    with pytest.raises(NetBoxUnavailableError):
        await netbox.require()
    await netbox.require()
