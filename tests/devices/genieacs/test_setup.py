"""The presets and provisions that Lastmile installs in GenieACS."""

import json
import re
from collections.abc import AsyncIterator

import pytest

from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import ControllerUnavailableError
from lastmile.devices.genieacs.nbi import Nbi
from lastmile.devices.genieacs.options import TR_098, TR_181, CpeModel, GenieAcsOptions
from lastmile.devices.genieacs.setup import install
from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.cpe import Cpe
from lastmile.devstack.genieacs.faults import NbiFault

PARTS = [
    "provisions/lastmile-bootstrap",
    "provisions/lastmile-line",
    "presets/lastmile-bootstrap",
    "presets/lastmile-line",
]
MODEL = CpeModel(provisioning_code="Device.DeviceInfo.ProvisioningCode", values={"Device.WiFi.SSID.1.SSID": "Acme {1}"})


@pytest.fixture
async def nbi(server: GenieAcsServer) -> AsyncIterator[Nbi]:
    nbi = Nbi(Endpoint(server.url))
    yield nbi
    await nbi.close()


async def set_up(nbi: Nbi, options: GenieAcsOptions) -> list[str]:
    """Install everything, and return the parts that were created or changed."""
    return [part for part, changed in (await install(nbi, options)).items() if changed]


def constant(script: str, name: str) -> object:
    """Return a constant of a provision's script, which is JSON."""
    found = re.search(rf"^const {name} = (.*);$", script, re.M)
    assert found
    return json.loads(found[1])


async def test_set_up_twice_changes_nothing_the_second_time(server: GenieAcsServer, nbi: Nbi) -> None:
    assert await install(nbi, GenieAcsOptions()) == dict.fromkeys(PARTS, True)
    requests = len(server.requests)
    assert await install(nbi, GenieAcsOptions()) == dict.fromkeys(PARTS, False)
    assert {one.partition(" ")[0] for one in server.requests[requests:]} == {"GET"}


async def test_set_up_leaves_other_presets_alone(server: GenieAcsServer, nbi: Nbi) -> None:
    own = {"_id": "bootstrap", "channel": "bootstrap", "configurations": []}
    server.acs.presets["bootstrap"] = own
    await set_up(nbi, GenieAcsOptions())
    assert server.acs.presets["bootstrap"] == own


async def test_set_up_writes_the_script_again_for_other_options(server: GenieAcsServer, nbi: Nbi) -> None:
    await set_up(nbi, GenieAcsOptions())
    assert await set_up(nbi, GenieAcsOptions(models={"HGW-1": MODEL})) == ["provisions/lastmile-line"]
    assert await set_up(nbi, GenieAcsOptions(models={"HGW-1": MODEL}, tag="acme")) == ["presets/lastmile-line"]


async def test_script_contains_the_values_of_each_model(server: GenieAcsServer, nbi: Nbi) -> None:
    await set_up(nbi, GenieAcsOptions(models={"HGW-1": MODEL}))
    script = server.acs.provisions["lastmile-line"]
    assert constant(script, "byProductClass") == {"HGW-1": {"Device.WiFi.SSID.1.SSID": "Acme {1}"}}
    assert constant(script, "byDataModel") == {**TR_181.values, **TR_098.values}
    assert script.count("{") == script.count("}")


async def test_set_up_makes_the_acs_notice_a_factory_reset(server: GenieAcsServer, nbi: Nbi, cpe: Cpe) -> None:
    await set_up(nbi, GenieAcsOptions())
    ssid = "Device.WiFi.SSID.1.SSID"
    server.acs.insert({"name": "setParameterValues", "device": cpe.id, "parameterValues": [[ssid, "Acme"]]})
    server.acs.inform(cpe)
    assert server.acs.value(cpe, ssid) == "Acme"
    cpe.reset()
    server.acs.inform(cpe)
    assert server.acs.value(cpe, ssid) is None


async def test_line_preset_acts_on_cpes_with_the_tag_only(
    server: GenieAcsServer, nbi: Nbi, cpe: Cpe, old_cpe: Cpe
) -> None:
    await set_up(nbi, GenieAcsOptions())
    server.acs.programs["lastmile-line"] = lambda session: session.tag("ran")
    await nbi.add_tag(cpe.id, "lastmile")
    for one in (cpe, old_cpe):
        server.acs.inform(one)
    assert [device.tags for device in server.acs.devices.values()] == [["lastmile", "ran"], []]


async def test_preset_is_not_installed_before_its_provision(server: GenieAcsServer, nbi: Nbi) -> None:
    server.faults.next(NbiFault.BAD_GATEWAY, method="PUT", after=1)
    with pytest.raises(ControllerUnavailableError):
        await set_up(nbi, GenieAcsOptions())
    assert (list(server.acs.provisions), list(server.acs.presets)) == (["lastmile-bootstrap"], [])
    assert await set_up(nbi, GenieAcsOptions()) == PARTS[1:]
