"""GenieACS asks this API for the settings of a CPE: the shipped scripts, run by Node.js, against the served API."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import get_args

import asyncpg
import pytest

from lastmile.api.auth.permissions import Permission
from lastmile.db import Database
from lastmile.devices.controllers import DONE, LineDevice
from lastmile.devices.drivers import Endpoint
from lastmile.devices.genieacs import driver
from lastmile.devices.genieacs.controller import GenieAcs
from lastmile.devices.genieacs.options import GenieAcsOptions, Setting
from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.cpe import Cpe, Value
from lastmile.devstack.genieacs.cpe_models import tr_181_cpe
from lastmile.services.cpe_settings import CpeSettings
from tests.support.api_keys import make_api_key
from tests.support.audited_env import AuditedEnv
from tests.support.genieacs_scripts import play_scripts

NAMES = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE000003"}
DEVICE = LineDevice("S-3", "00:1a:2b:00:00:03", None, oui="00D09E", product_class="HGW-1", serial="CPE000003")
OPTIONS = GenieAcsOptions(extension=True)


@pytest.fixture
def genieacs() -> Iterator[GenieAcsServer]:
    with GenieAcsServer() as server:
        yield server


@pytest.fixture
def cpe(genieacs: GenieAcsServer) -> Cpe:
    """Return the CPE of S-3, which has informed."""
    cpe = tr_181_cpe("CPE000003", mac="00:1a:2b:00:00:03")
    genieacs.acs.add(cpe)
    return cpe


@pytest.fixture
async def environment(served: int, database: Database, lines: AuditedEnv) -> dict[str, str]:
    """Return the variables of an ACS, beside an API with the line S-3."""
    await lines.provision(3, **NAMES)
    key = await make_api_key(database, {Permission.ACS_READ})
    api = {"LASTMILE_API_URL": f"http://127.0.0.1:{served}/", "LASTMILE_API_TOKEN": key.text}
    return api | {"GENIEACS_EXT_TIMEOUT": "60000"}  # milliseconds


@pytest.fixture
async def controller(
    genieacs: GenieAcsServer, cpe: Cpe, environment: dict[str, str], tmp_path: Path
) -> AsyncIterator[GenieAcs]:
    """Return the controller of a GenieACS that is set up, with the extension."""
    play_scripts(genieacs.acs, cpe, tmp_path, environment)
    await driver.set_up(Endpoint(genieacs.url), OPTIONS)
    async with driver.open(Endpoint(genieacs.url), OPTIONS) as controller:
        yield controller


async def inform(genieacs: GenieAcsServer, cpe: Cpe) -> None:
    await asyncio.to_thread(genieacs.acs.inform, cpe)


def settings_of(cpe: Cpe) -> dict[str, Value]:
    """Return the parameters of the CPE that are not its factory settings."""
    factory = tr_181_cpe("CPE000003", mac=cpe.mac).parameters
    return {path: one.value for path, one in cpe.parameters.items() if one.value != factory[path].value}


async def expected(owner: asyncpg.Connection) -> dict[str, Value]:
    password = await owner.fetchval("SELECT value FROM radcheck WHERE username = 'S-3@acme.lastmile'")
    return {
        "Device.DeviceInfo.ProvisioningCode": "S-3",
        "Device.PPP.Interface.1.Username": "S-3@acme.lastmile",
        "Device.PPP.Interface.1.Password": password,
        "Device.PPP.Interface.1.Enable": True,
        "Device.IP.Interface.1.IPv6Enable": True,
        "Device.DHCPv6.Client.1.RequestPrefixes": True,
        "Device.DHCPv6.Client.1.RequestAddresses": True,
        "Device.DHCPv6.Client.1.Enable": True,
    }


def test_every_setting_is_one_of_the_api() -> None:
    assert set(get_args(Setting)) == CpeSettings.model_fields.keys() - {"subscriber_ref", "in_service"}


async def test_cpe_that_comes_into_service_gets_the_login_of_its_line(
    controller: GenieAcs, cpe: Cpe, owner: asyncpg.Connection
) -> None:
    assert await controller.switch_on(DEVICE) == DONE
    assert settings_of(cpe) == await expected(owner)


@pytest.mark.parametrize("silent", [False, True])
async def test_cpe_is_right_again_by_itself_after_a_factory_reset(
    controller: GenieAcs, genieacs: GenieAcsServer, cpe: Cpe, owner: asyncpg.Connection, silent: bool
) -> None:
    await controller.switch_on(DEVICE)
    cpe.reset(silent=silent)
    assert settings_of(cpe) == {}
    await inform(genieacs, cpe)
    assert settings_of(cpe) == await expected(owner)


async def test_further_session_writes_nothing_so_that_ppp_stays_up(
    controller: GenieAcs, genieacs: GenieAcsServer, cpe: Cpe
) -> None:
    await controller.switch_on(DEVICE)
    before = list(cpe.written)
    await inform(genieacs, cpe)
    assert cpe.written == before


async def test_rotated_password_reaches_the_cpe_in_its_next_session(
    controller: GenieAcs, genieacs: GenieAcsServer, cpe: Cpe, owner: asyncpg.Connection
) -> None:
    await controller.switch_on(DEVICE)
    await owner.execute("UPDATE radcheck SET value = 'another' WHERE username = 'S-3@acme.lastmile'")
    await inform(genieacs, cpe)
    assert cpe.written[-1] == {"Device.PPP.Interface.1.Password": "another"}


async def test_line_without_ipv6_has_none_in_its_cpe(controller: GenieAcs, cpe: Cpe, owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE delegations SET state = 'revoked' WHERE subscriber_ref = 'S-3'")
    assert await controller.switch_on(DEVICE) == DONE
    assert settings_of(cpe) == {path: value for path, value in (await expected(owner)).items() if "v6" not in path}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"LASTMILE_API_TOKEN": "lm_0"}, "Lastmile answers 401: The API key is unknown, expired or revoked."),
        ({"LASTMILE_API_URL": "http://127.0.0.1:1"}, "Lastmile does not answer at http://127.0.0.1:1: connect"),
        ({"LASTMILE_API_URL": "nowhere"}, "LASTMILE_API_URL is not the address of Lastmile's API"),
    ],
)
async def test_cpe_waits_while_the_acs_cannot_ask_lastmile(
    controller: GenieAcs,
    genieacs: GenieAcsServer,
    cpe: Cpe,
    environment: dict[str, str],
    tmp_path: Path,
    changes: dict[str, str],
    words: str,
) -> None:
    play_scripts(genieacs.acs, cpe, tmp_path, environment | changes)
    outcome = await controller.switch_on(DEVICE)
    assert outcome.waits_for.startswith(f"the ACS has not got the settings of the line from Lastmile: {words}")
    assert environment["LASTMILE_API_TOKEN"] not in str(genieacs.acs.faults)
    assert settings_of(cpe) == {"Device.DeviceInfo.ProvisioningCode": "S-3"}


async def test_cpe_that_no_line_has_keeps_its_values(
    controller: GenieAcs, genieacs: GenieAcsServer, cpe: Cpe, owner: asyncpg.Connection
) -> None:
    await controller.switch_on(DEVICE)
    await owner.execute(
        "UPDATE network_profiles SET cpe_serial = 'other', cpe_mac = NULL WHERE cpe_serial = 'CPE000003'"
    )
    before = settings_of(cpe)
    await inform(genieacs, cpe)
    [fault] = genieacs.acs.faults.values()
    assert fault["message"].startswith("Lastmile answers 404: No line has the CPE with the OUI 00D09E")
    assert settings_of(cpe) == before
