"""What an ACS reads of a CPE: the settings of each state of its line, for the right key alone, and without a trace."""

from typing import Any

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from lastmile.api.auth.permissions import Permission
from lastmile.db import Database
from lastmile.services.api_keys import CreatedKey
from tests.support.api_keys import authorization, make_api_key
from tests.support.audited_env import AuditedEnv

NAMES = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE 3/4"}
CPE = {"oui": "00D09E", "product_class": "HGW-1", "serial": "CPE 3/4"}
PATH = "/v1/acs/cpe-settings"
OFF = {
    "subscriber_ref": "S-3",
    "in_service": False,
    "provisioning_code": "",
    "ppp_enabled": False,
    "ppp_username": None,
    "ppp_password": None,
    "ipv6_enabled": False,
    "ipv6_prefix": False,
}


@pytest.fixture
async def key(database: Database) -> CreatedKey:
    """Return a key with the permission of an ACS alone."""
    return await make_api_key(database, {Permission.ACS_READ})


@pytest.fixture
async def acs(api: httpx.AsyncClient, key: CreatedKey) -> httpx.AsyncClient:
    api.headers.update(authorization(key))
    return api


@pytest.fixture
async def line(lines: AuditedEnv) -> AuditedEnv:
    """Return an environment where S-3 has a CPE that TR-069 names, with delegated prefix."""
    await lines.provision(3, **NAMES)
    return lines


async def password(owner: asyncpg.Connection, subscriber: str = "S-3") -> str:
    found = await owner.fetchval(
        "SELECT value FROM radcheck WHERE subscriber_ref = $1 AND attribute = 'Cleartext-Password'", subscriber
    )
    assert isinstance(found, str)
    return found


async def ok(acs: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    answer = await acs.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_settings_of_a_line_in_service_are_its_login_and_ipv6(
    acs: httpx.AsyncClient, line: AuditedEnv, owner: asyncpg.Connection
) -> None:
    answer = await acs.get(PATH, params=CPE)
    assert answer.json() == {
        "subscriber_ref": "S-3",
        "in_service": True,
        "provisioning_code": "S-3",
        "ppp_enabled": True,
        "ppp_username": "S-3@acme.lastmile",
        "ppp_password": await password(owner),
        "ipv6_enabled": True,
        "ipv6_prefix": True,
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_line_whose_order_names_the_mac_alone_is_found_by_it(acs: httpx.AsyncClient, lines: AuditedEnv) -> None:
    unknown = {"oui": "001A2B", "serial": "other"}
    assert (await ok(acs, **unknown, mac="00-1A-2B-00-00-01"))["subscriber_ref"] == "S-1"
    assert (await acs.get(PATH, params=unknown)).status_code == 404


@pytest.mark.parametrize("mode", ["block", "walled_garden", "slow"])
async def test_suspended_line_keeps_its_settings_since_radius_limits_it(
    acs: httpx.AsyncClient, line: AuditedEnv, owner: asyncpg.Connection, mode: str
) -> None:
    before = await ok(acs, **CPE)
    await owner.execute(
        "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order) "
        "VALUES ('acme', 'S-3', $1, 'unpaid', 'X-3')",
        mode,
    )
    await owner.execute("UPDATE delegations SET state = 'suspended' WHERE subscriber_ref = 'S-3'")
    assert await ok(acs, **CPE) == before


async def test_line_that_has_ended_is_switched_off(acs: httpx.AsyncClient, line: AuditedEnv) -> None:
    await line.deprovision(3)
    # The order has the MAC address too, which is the identity of the CPE then.
    assert await ok(acs, **CPE, mac="00:1a:2b:00:00:03") == OFF


async def test_line_whose_cpe_is_out_of_service_is_switched_off(
    acs: httpx.AsyncClient, line: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute("UPDATE devices SET in_service = false WHERE kind = 'cpe' AND subscriber_ref = 'S-3'")
    assert await ok(acs, **CPE) == OFF


async def test_ipoe_line_without_ipv6_needs_neither_ppp_nor_ipv6(
    acs: httpx.AsyncClient, line: AuditedEnv, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "UPDATE network_profiles SET access = 'ipoe', username = 'bng-3' WHERE cpe_serial = $1", CPE["serial"]
    )
    await owner.execute("UPDATE delegations SET state = 'revoked' WHERE subscriber_ref = 'S-3'")
    found = await ok(acs, **CPE)
    off = OFF | {"in_service": True, "provisioning_code": "S-3"}
    assert found == off


async def test_cpe_of_another_tenant_looks_unknown(
    acs: httpx.AsyncClient, line: AuditedEnv, database: Database
) -> None:
    other = authorization(await make_api_key(database, {Permission.ACS_READ}, tenant="other"))
    answer = await acs.get(PATH, params=CPE, headers=other)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert answer.json()["detail"] == "No line has the CPE with the OUI 00D09E and the serial number CPE 3/4."
    named = await acs.get(PATH, params=CPE | {"tenant": "other"})
    assert (named.status_code, named.json()["type"]) == (403, "/problems/wrong-tenant")


async def test_key_of_an_acs_can_do_nothing_else(acs: httpx.AsyncClient, line: AuditedEnv) -> None:
    for path in ("/v1/subscribers/S-3", "/v1/network-profiles", "/v1/orders", "/v1/subscribers/S-3/history"):
        assert (await acs.get(path)).status_code == 403, path


@pytest.mark.parametrize(
    ("changes", "parameter"), [({"oui": "HUAWEI"}, "oui"), ({"serial": ""}, "serial"), ({"mac": "x"}, "mac")]
)
async def test_wrong_name_of_a_cpe_is_refused_with_its_parameter(
    acs: httpx.AsyncClient, changes: dict[str, str], parameter: str
) -> None:
    answer = await acs.get(PATH, params=CPE | changes)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, parameter)


async def test_read_is_recorded_once_a_day_and_the_password_nowhere(
    acs: httpx.AsyncClient, line: AuditedEnv, owner: asyncpg.Connection, key: CreatedKey
) -> None:
    secret = await password(owner)
    with capture_logs() as logs:
        for _ in range(3):
            assert (await ok(acs, **CPE))["ppp_password"] == secret
    reads = "SELECT tenant_id, actor, subscriber_ref, key FROM audit_log WHERE action = 'read'"
    entry = ("acme", f"api-key/{key.api_key.id}", "S-3", "S-3@acme.lastmile")
    assert [tuple(row) for row in await owner.fetch(reads)] == [entry]
    await owner.execute("UPDATE audit_log SET at = at - interval '25 hours' WHERE action = 'read'")
    await ok(acs, **CPE)
    assert [tuple(row) for row in await owner.fetch(reads)] == [entry] * 2
    assert logs
    assert secret not in str(logs)
    assert secret not in str([dict(row) for row in await owner.fetch("SELECT * FROM audit_log")])


async def test_mac_address_of_a_cpe_with_a_serial_number_finds_no_line(
    acs: httpx.AsyncClient, line: AuditedEnv
) -> None:
    """A CPE says its MAC address itself: another one must not get the password by it."""
    await line.provision(4, **NAMES | {"cpe_serial": "CPE 5", "cpe_mac": "00:1a:2b:00:00:77"})
    other = {"oui": "AABBCC", "serial": "foreign", "mac": "00:1a:2b:00:00:77"}
    assert (await acs.get(PATH, params=other)).status_code == 404
