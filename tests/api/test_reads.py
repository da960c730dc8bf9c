"""The lists and records that the API reads: pages, filters, personal data, tenants and wrong parameters."""

from collections.abc import Iterable
from typing import Any

import asyncpg
import httpx
import pytest

from lastmile.api.auth.permissions import Permission
from lastmile.db import Database
from lastmile.services.api_keys import NewApiKey, PrincipalKind, create_api_key
from tests.support.audited_env import AuditedEnv

PERSONAL = ("Ada", "ada@example.net")


@pytest.fixture
async def delegation(lines: AuditedEnv, owner: asyncpg.Connection) -> int:
    """Return the id of the delegation of S-1."""
    return int(await owner.fetchval("SELECT id FROM delegations WHERE subscriber_ref = 'S-1'"))


async def key(
    database: Database, tenant: str | None = "acme", permissions: Iterable[str] = Permission
) -> dict[str, str]:
    """Return the header with an API key for the tenant, or for all tenants."""
    new = NewApiKey(name="test", tenant=tenant, permissions=frozenset(permissions), kind=PrincipalKind.SYSTEM)
    return {"Authorization": f"Bearer {(await create_api_key(database, new, actor='')).text}"}


@pytest.fixture
async def acme(api: httpx.AsyncClient, database: Database) -> httpx.AsyncClient:
    """Return a client with a key for `acme` that has every permission."""
    api.headers.update(await key(database))
    return api


async def ok(api: httpx.AsyncClient, path: str, **headers: str) -> Any:
    answer = await api.get(path, headers=headers)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


async def wrong_parameter(api: httpx.AsyncClient, path: str) -> dict[str, str]:
    """Return the one violation of the request."""
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid"), (path, answer.text)
    (violation,) = answer.json()["errors"]
    found: dict[str, str] = violation
    return found


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("/v1/subscribers?limit=1&plan=fiber", "subscriber_ref"),
        ("/v1/delegations?limit=1&within=2001:db8::/32", "id"),
        ("/v1/subscribers/S-1/history?limit=3", "key"),
        ("/v1/network-profiles?limit=1", "onu_serial"),
    ],
)
async def test_pages_follow_next_to_the_end(
    acme: httpx.AsyncClient, lines: AuditedEnv, path: str, identity: str
) -> None:
    whole = (await ok(acme, path.replace("limit=1", "").replace("limit=3", "")))["results"]
    found, there = [], path
    while there:
        page = await ok(acme, there)
        found += page["results"]
        there = page["next"]
    assert found == whole
    assert len(found) > 1
    assert all(one[identity] for one in found)


async def test_cursor_is_refused_with_another_filter_list_or_signature(
    acme: httpx.AsyncClient, lines: AuditedEnv
) -> None:
    following = (await ok(acme, "/v1/subscribers?limit=1"))["next"]
    cursor = following.partition("cursor=")[2]
    assert len((await ok(acme, f"/v1/subscribers?limit=7&cursor={cursor}"))["results"]) == 1
    changed = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    for path in (
        f"/v1/subscribers?status=suspended&cursor={cursor}",
        f"/v1/delegations?cursor={cursor}",
        f"/v1/subscribers?cursor={changed}",
        "/v1/subscribers?cursor=%C3%A9",
        "/v1/subscribers?cursor=",
    ):
        assert (await wrong_parameter(acme, path))["parameter"] == "cursor"


@pytest.mark.parametrize(
    ("path", "parameter", "words"),
    [
        ("/v1/subscribers?plans=fiber", "plans", "Did you mean 'plan'?"),
        ("/v1/holders?address=192.0.2.1&att=1", "att", "Did you mean 'at'?"),
        ("/v1/subscribers?limit=0", "limit", "at least 1"),
        ("/v1/subscribers?limit=1001", "limit", "at most 1000"),
        ("/v1/subscribers?limit=1" + "0" * 400, "limit", "at most 1000"),
        ("/v1/subscribers?status=gone", "status.0", "'in_service'"),
        ("/v1/delegations?subscriber=S%201", "subscriber.0", "must be letters, digits"),
        ("/v1/subscribers?q=%00", "q", "control characters"),
        ("/v1/subscribers?created_at__gte=yesterday", "created_at__gte", "ISO 8601"),
        ("/v1/subscribers/-/history", "subscriber_ref", "letters, digits"),
        ("/v1/delegations?within=10.0.0.1/8", "within", "without host bits"),
        ("/v1/delegations?contains=fe80::1%25eth0", "contains", "must be an IP address"),
        ("/v1/delegations/9223372036854775808", "delegation_id", "at most"),
        ("/v1/holders?at=2026-05-03T14:00:00Z", "address", "is missing"),
    ],
)
async def test_wrong_parameter_is_named_with_its_rule(
    acme: httpx.AsyncClient, path: str, parameter: str, words: str
) -> None:
    violation = await wrong_parameter(acme, path)
    assert (violation["parameter"], words in violation["detail"]) == (parameter, True), violation


async def test_reads_show_the_records_of_a_line(acme: httpx.AsyncClient, delegation: int) -> None:
    (suspended,) = (await ok(acme, "/v1/subscribers?status=suspended&status=archived"))["results"]
    assert suspended["subscriber_ref"] == "S-2"
    line = await ok(acme, "/v1/subscribers/S-1")
    assert (line["status"], line["plan"], line["radius"]["username"]) == ("in_service", "fiber", "S-1@acme.lastmile")
    prefix = line["addresses"][0]["prefix"]
    assert [one["prefix"] for one in (await ok(acme, "/v1/subscribers/S-1/delegations"))["results"]] == [prefix]
    assert [one["session"] for one in (await ok(acme, "/v1/subscribers/S-1/sessions?online=true"))["results"]] == ["s1"]
    assert (await ok(acme, f"/v1/delegations/{delegation}"))["prefix"] == prefix
    events = (await ok(acme, f"/v1/delegations/{delegation}/events"))["results"]
    assert [event["to_state"] for event in events] == ["allocated", "active"]
    address = prefix.replace("/56", "1")
    assert [one["id"] for one in (await ok(acme, f"/v1/delegations?contains={address}"))["results"]] == [delegation]
    (holder,) = (await ok(acme, f"/v1/holders?address={address}&at={events[1]['at']}"))["results"]
    assert holder["subscriber_ref"] == "S-1"
    assert (await ok(acme, f"/v1/holders?address={address}&at=2020-01-01T00:00:00Z"))["results"] == []


async def test_network_profiles_are_found_by_what_a_line_is_attached_to(
    acme: httpx.AsyncClient, lines: AuditedEnv
) -> None:
    cpe = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE000003"}
    await lines.provision(
        3, olt="olt-7", pon_port="0/1/3", onu_type="F660", speed_profile="1G", duid="000300011a", **cpe
    )
    for wanted, found in {
        "": ["S-1", "S-2", "S-3"],
        "onu_serial=ACME-00000001": ["S-1"],
        "cpe_mac=001a.2b00.0002": ["S-2"],
        "olt=olt-7&pon_port=0/1/3&pon_port=0/1/4": ["S-3"],
        "olt=olt-7&onu_serial=ACME00000001": [],
    }.items():
        profiles = (await ok(acme, f"/v1/network-profiles?{wanted}"))["results"]
        assert [profile["subscriber_ref"] for profile in profiles] == found, wanted
    violation = await wrong_parameter(acme, "/v1/network-profiles?cpe_mac=x")
    assert (violation["parameter"], "must be a MAC address" in violation["detail"]) == ("cpe_mac.0", True)

    path = "/v1/subscribers/S-3/network-profile"
    profile = await ok(acme, path)
    assert (profile["olt"], profile["cpe_mac"], profile["created_by_order"]) == ("olt-7", "00:1a:2b:00:00:03", "O-3")
    assert (profile["onu_type"], profile["speed_profile"], profile["duid"]) == ("F660", "1G", "00:03:00:01:1a")
    assert {name: profile[name] for name in cpe} == cpe
    known = (await acme.get(path)).headers["etag"]
    assert (await acme.get(path, headers={"If-None-Match": known})).status_code == 304
    await lines.deprovision(3)
    assert (await acme.get(path)).status_code == 404
    assert len((await ok(acme, "/v1/network-profiles"))["results"]) == 2


async def test_personal_data_needs_its_own_permission(
    api: httpx.AsyncClient, database: Database, lines: AuditedEnv
) -> None:
    for permissions in (set(Permission), set(Permission) - {Permission.SUBSCRIBERS_PERSONAL}):
        headers = await key(database, permissions=permissions)
        for path in ("/v1/subscribers", "/v1/subscribers/S-1", "/v1/subscribers/S-1/history"):
            shown = str(await ok(api, path, **headers))
            personal = "Ada Example" if path.endswith("history") else PERSONAL[0]
            assert (personal in shown) is (Permission.SUBSCRIBERS_PERSONAL in permissions), path
        found = (await ok(api, "/v1/subscribers?q=ada@", **headers))["results"]
        assert len(found) == (2 if Permission.SUBSCRIBERS_PERSONAL in permissions else 0)


async def test_records_of_another_tenant_look_absent(
    api: httpx.AsyncClient, database: Database, delegation: int
) -> None:
    other = await key(database, "other")
    for path in (
        "/v1/subscribers/S-1",
        "/v1/subscribers/S-1/network-profile",
        "/v1/subscribers/S-1/history",
        "/v1/subscribers/S-1/delegations",
        "/v1/subscribers/S-1/sessions",
        f"/v1/delegations/{delegation}",
        f"/v1/delegations/{delegation}/events",
    ):
        assert (await api.get(path, headers=other)).status_code == 404, path
    for path in ("/v1/subscribers", "/v1/network-profiles", "/v1/delegations", "/v1/holders?address=2001:db8::1"):
        assert (await ok(api, path, **other))["results"] == []
    assert (await api.get("/v1/subscribers?tenant=acme", headers=other)).json()["type"] == "/problems/wrong-tenant"


async def test_caller_for_all_tenants_lists_all_and_names_one(
    api: httpx.AsyncClient, database: Database, delegation: int
) -> None:
    platform = await key(database, None)
    assert len((await ok(api, "/v1/subscribers", **platform))["results"]) == 2
    assert (await ok(api, "/v1/subscribers?tenant=other", **platform))["results"] == []
    assert (await ok(api, f"/v1/delegations/{delegation}", **platform))["tenant"] == "acme"
    assert (await ok(api, "/v1/subscribers/S-1?tenant=acme", **platform))["tenant"] == "acme"
    unnamed = await api.get("/v1/subscribers/S-1", headers=platform)
    assert (unnamed.status_code, unnamed.json()["errors"][0]["parameter"]) == (422, "tenant")
