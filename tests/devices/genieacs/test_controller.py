"""The driver in each situation in which the recorded NBI was seen, on the socket of the stand-in."""

import asyncio
import re
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from lastmile.devices.controllers import DONE, LineDevice
from lastmile.devices.drivers import GROUP, Endpoint
from lastmile.devices.errors import (
    AmbiguousDeviceError,
    ControllerRefusedError,
    ControllerUnavailableError,
    DeviceNotSeenError,
)
from lastmile.devices.genieacs import driver
from lastmile.devices.genieacs.controller import READ_KEY, WRITE_KEY, GenieAcs
from lastmile.devices.genieacs.options import TR_098, TR_181, CpeModel, GenieAcsOptions, Value
from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.cpe import Cpe, Reachability
from lastmile.devstack.genieacs.cpe_models import tr_181_cpe
from lastmile.devstack.genieacs.faults import NbiFault

CODE = "Device.DeviceInfo.ProvisioningCode"
VLAN_ID = "Device.Ethernet.VLANTermination.1.VLANID"


def line(cpe: Cpe, identity: str = "", *, shared: bool = False) -> LineDevice:
    return LineDevice("S-1000", identity or cpe.id, tenant="acme", shared=shared)


def holds(cpe: Cpe, values: dict[str, Value]) -> bool:
    return all(cpe.read(path) == value for path, value in values.items())


def options(cpe: Cpe, values: dict[str, Value]) -> GenieAcsOptions:
    """Return options that give CPEs of this product class these values, and no others."""
    model = CpeModel(provisioning_code=CODE, values=values)
    return GenieAcsOptions(models={cpe.identity["_ProductClass"]: model})


def waiting(server: GenieAcsServer) -> list[str]:
    return [task.get("uniqueKey", task["name"]) for task in server.acs.tasks.values()]


def test_driver_is_found_by_its_entry_point() -> None:
    [found] = entry_points(group=GROUP, name="genieacs")
    assert found.load() is driver


async def test_switch_on_writes_the_values_of_tr_181(genieacs: GenieAcs, cpe: Cpe) -> None:
    assert await genieacs.switch_on(line(cpe)) == DONE
    assert holds(cpe, {CODE: "S-1000", **TR_181.values})


async def test_switch_on_writes_the_values_of_tr_098(genieacs: GenieAcs, old_cpe: Cpe) -> None:
    assert await genieacs.switch_on(line(old_cpe)) == DONE
    assert holds(old_cpe, {TR_098.provisioning_code: "S-1000", **TR_098.values})


async def test_switch_on_writes_the_values_of_the_product_class(server: GenieAcsServer, cpe: Cpe) -> None:
    chosen = options(cpe, {"Device.WiFi.SSID.1.SSID": "Acme", VLAN_ID: 35})
    async with driver.open(Endpoint(server.url), chosen) as controller:
        assert await controller.switch_on(line(cpe)) == DONE
    assert cpe.written == [{CODE: "S-1000", "Device.WiFi.SSID.1.SSID": "Acme", VLAN_ID: 35}]


async def test_ids_are_encoded_twice_in_paths(server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe) -> None:
    await genieacs.switch_on(line(cpe))
    paths = [one for one in server.requests if one.startswith("POST")]
    assert len(paths) == 3
    assert all(one.startswith("POST /devices/00D09E-HGW%252D1-CPE000001/") for one in paths)


async def test_absent_parameter_that_the_acs_skips_in_silence_is_refused(server: GenieAcsServer, cpe: Cpe) -> None:
    chosen = options(cpe, {"Device.X_ACME.Mode": 1})
    async with driver.open(Endpoint(server.url), chosen) as controller:
        with pytest.raises(ControllerRefusedError, match=r"no writable Device\.X_ACME\.Mode: .* product class HGW-1"):
            await controller.switch_on(line(cpe))


async def test_read_only_parameter_that_the_acs_skips_in_silence_is_refused(server: GenieAcsServer, cpe: Cpe) -> None:
    chosen = options(cpe, {"Device.DeviceInfo.SoftwareVersion": "2.0"})
    async with driver.open(Endpoint(server.url), chosen) as controller:
        with pytest.raises(ControllerRefusedError, match=r"no writable Device\.DeviceInfo\.SoftwareVersion:"):
            await controller.switch_on(line(cpe))


async def test_read_only_parameter_with_the_value_is_done(server: GenieAcsServer, cpe: Cpe) -> None:
    chosen = options(cpe, {"Device.DeviceInfo.SoftwareVersion": "1.0"})
    async with driver.open(Endpoint(server.url), chosen) as controller:
        assert await controller.switch_on(line(cpe)) == DONE


async def test_values_that_the_cpe_lost_and_the_acs_still_has_are_written_again(genieacs: GenieAcs, cpe: Cpe) -> None:
    await genieacs.switch_on(line(cpe))
    cpe.reset(silent=True)
    assert await genieacs.switch_on(line(cpe)) == DONE
    assert holds(cpe, {CODE: "S-1000", **TR_181.values})


async def test_cpe_fault_names_each_parameter_and_leaves_nothing_at_the_acs(server: GenieAcsServer, cpe: Cpe) -> None:
    chosen = options(cpe, {"Device.WiFi.SSID.1.SSID": "Acme", VLAN_ID: 5000})
    async with driver.open(Endpoint(server.url), chosen) as controller:
        with pytest.raises(ControllerRefusedError) as refusal:
            await controller.switch_on(line(cpe))
    assert str(refusal.value) == f"The CPE {cpe.id} refuses {VLAN_ID} (9007 Invalid parameter value)"
    assert cpe.written == []
    assert (server.acs.tasks, server.acs.faults) == ({}, {})


async def test_fault_that_is_not_of_the_cpe_is_left_to_the_acs_to_repeat(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe
) -> None:
    def break_off() -> None:
        [task] = [id for id, task in server.acs.tasks.items() if task.get("uniqueKey") == WRITE_KEY]
        id = f"{cpe.id}:task_{task}"
        server.acs.faults[id] = {"_id": id, "device": cpe.id, "code": "session_terminated"}

    cpe.before_rpc = break_off
    assert (
        await genieacs.switch_on(line(cpe))
    ).waits_for == "the session of the CPE failed, and the ACS will try again"
    assert len(server.acs.faults) == 1


@pytest.mark.parametrize(
    ("reachability", "reason"),
    [
        (Reachability.OFFLINE, "the CPE is offline"),
        (Reachability.MUTE, "the CPE has not started a session with the ACS"),
    ],
)
async def test_unreachable_cpe_is_waited_for_and_follows_at_its_next_inform(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe, reachability: Reachability, reason: str
) -> None:
    cpe.reachability = reachability
    assert (await genieacs.switch_on(line(cpe))).waits_for == reason
    server.acs.inform(cpe)
    assert holds(cpe, {CODE: "S-1000", **TR_181.values})


async def test_cpe_that_refuses_the_connection_request_is_waited_for(genieacs: GenieAcs, cpe: Cpe) -> None:
    cpe.wants_password = True
    assert (await genieacs.switch_on(line(cpe))).waits_for == (
        "the CPE refuses the ACS's connection request, and follows later "
        "(Connection request error: Incorrect connection request credentials)"
    )


async def test_repeated_switch_on_queues_each_task_once(server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe) -> None:
    cpe.reachability = Reachability.OFFLINE
    for _ in range(3):
        await genieacs.switch_on(line(cpe))
    assert waiting(server) == [READ_KEY, WRITE_KEY]


async def test_cpe_whose_data_model_is_unknown_is_tagged_and_waited_for(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe
) -> None:
    server.acs.devices[cpe.id].known.clear()
    assert (await genieacs.switch_on(line(cpe))).waits_for == "the ACS has not read the data model of the CPE yet"
    assert server.acs.devices[cpe.id].tags == ["lastmile"]


async def test_task_that_another_client_deleted_is_queued_again(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe
) -> None:
    def delete_write() -> None:
        cpe.before_rpc = None
        server.acs.tasks = {id: task for id, task in server.acs.tasks.items() if task.get("uniqueKey") != WRITE_KEY}

    cpe.before_rpc = delete_write
    assert await genieacs.switch_on(line(cpe)) == DONE
    assert holds(cpe, {CODE: "S-1000", **TR_181.values})


async def test_value_that_is_never_applied_is_waited_for(server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe) -> None:
    def delete_write() -> None:
        server.acs.tasks = {id: task for id, task in server.acs.tasks.items() if task.get("uniqueKey") != WRITE_KEY}

    cpe.before_rpc = delete_write
    assert (await genieacs.switch_on(line(cpe))).waits_for.startswith(f"the CPE has not taken over {CODE}, ")


async def test_switch_off_in_a_session_is_repeated_until_the_session_ends(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe
) -> None:
    cpe.reachability = Reachability.OFFLINE
    await genieacs.switch_on(line(cpe))
    with server.acs.in_session(cpe):
        off = asyncio.create_task(genieacs.switch_off(line(cpe)))
        await asyncio.to_thread(server.wait_for, "DELETE /tasks/", times=2)
    assert await off == DONE
    assert waiting(server) == []


async def test_switch_off_in_a_session_longer_than_the_call_waits(server: GenieAcsServer, cpe: Cpe) -> None:
    cpe.reachability = Reachability.OFFLINE
    async with driver.open(Endpoint(server.url, timeout_seconds=0.2), GenieAcsOptions()) as controller:
        await controller.switch_on(line(cpe))
        with server.acs.in_session(cpe):
            outcome = await controller.switch_off(line(cpe))
    assert outcome.waits_for == "the CPE is in a long session with the ACS"


async def test_switch_on_in_a_session_longer_than_the_call_waits(server: GenieAcsServer, cpe: Cpe) -> None:
    async with driver.open(Endpoint(server.url, timeout_seconds=0.2), GenieAcsOptions()) as controller:
        with server.acs.in_session(cpe):
            outcome = await controller.switch_on(line(cpe))
    assert outcome.waits_for == "the CPE is in a long session with the ACS"


async def test_slow_cpe_is_waited_for_and_then_done(server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe) -> None:
    goes_on = threading.Event()
    cpe.before_rpc = lambda: goes_on.wait(60)
    async with driver.open(Endpoint(server.url, timeout_seconds=0.2), GenieAcsOptions()) as impatient:
        assert (await impatient.switch_on(line(cpe))).waits_for == "the CPE is in a long session with the ACS"
    goes_on.set()
    assert await genieacs.switch_on(line(cpe)) == DONE
    assert holds(cpe, {CODE: "S-1000", **TR_181.values})


async def test_switch_on_in_a_session_longer_than_the_lock_is_queued(cpe: Cpe, server: GenieAcsServer) -> None:
    server.acs.lock_seconds = 0.01
    async with driver.open(Endpoint(server.url), GenieAcsOptions()) as controller:
        with server.acs.in_session(cpe):
            outcome = await controller.switch_on(line(cpe))
        assert outcome.waits_for == "the CPE has not started a session with the ACS"
    assert waiting(server) == [READ_KEY, WRITE_KEY]


async def test_switch_on_during_a_session_acts_after_its_end(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe
) -> None:
    with server.acs.in_session(cpe):
        on = asyncio.create_task(genieacs.switch_on(line(cpe)))
        await asyncio.to_thread(server.wait_for, f"POST /devices/{cpe.id.replace('%', '%25')}/tasks", times=2)
    assert await on == DONE
    assert holds(cpe, {CODE: "S-1000", **TR_181.values})


@pytest.mark.parametrize("answered", range(5))
async def test_dying_worker_of_the_nbi_is_an_outage_that_a_repeated_call_repairs(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe, answered: int
) -> None:
    server.faults.next(NbiFault.WORKER_DIES, after=answered)
    with pytest.raises(ControllerUnavailableError, match="ended before it had answered"):
        await genieacs.switch_on(line(cpe))
    assert await genieacs.switch_on(line(cpe)) == DONE


async def test_nbi_that_hangs_is_an_outage(server: GenieAcsServer, cpe: Cpe) -> None:
    """A task that is not answered may be in the queue behind a session; then other requests are answered."""
    server.faults.next(NbiFault.HANGS, method="POST", path="/tasks")
    server.faults.next(NbiFault.HANGS, method="GET", after=1)
    async with driver.open(Endpoint(server.url, timeout_seconds=0.2), GenieAcsOptions()) as controller:
        with pytest.raises(ControllerUnavailableError, match=r"has not answered GET /devices/ within 0\.2 s"):
            await controller.switch_on(line(cpe))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (NbiFault.BAD_GATEWAY, r"accepts no request now \(502\)"),
        (NbiFault.OTHER_SERVER, r"is not GenieACS's NBI \(it answers 200\)"),
    ],
)
async def test_answer_of_another_server_is_an_outage(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe, fault: NbiFault, words: str
) -> None:
    server.faults.next(fault)
    with pytest.raises(ControllerUnavailableError, match=words):
        await genieacs.switch_on(line(cpe))


async def test_secret_without_a_user_name_goes_to_the_proxy_as_a_bearer_token() -> None:
    with GenieAcsServer(authorization="Bearer t0ken") as server:
        async with driver.open(Endpoint(server.url, secret="t0ken"), GenieAcsOptions()) as controller:
            assert await controller.check() == "GenieACS 1.2.16+26112938e9"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_unusable_file_of_certificates_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ControllerUnavailableError, match=re.escape(str(file))):
        async with driver.open(Endpoint("https://127.0.0.1:1", ca_file=file), GenieAcsOptions()):
            pass


@pytest.mark.parametrize("identity", ["02:00:00:00:00:ab", "00D09E-HGW%2D1-CPE000001"])
async def test_cpe_is_found_by_mac_address_and_by_serial_number(
    genieacs: GenieAcs, cpe: Cpe, old_cpe: Cpe, identity: str
) -> None:
    assert await genieacs.switch_on(line(cpe, identity)) == DONE
    assert (cpe.read(CODE), old_cpe.read(TR_098.provisioning_code)) == ("S-1000", "")


async def test_cpe_is_found_by_its_serial_number_before_its_mac_address(genieacs: GenieAcs, cpe: Cpe) -> None:
    """No virtual parameter is needed where the order has the names of TR-069."""
    device = LineDevice("S-1000", "02:00:00:00:00:99", oui="00D09E", product_class="HGW-1", serial="CPE000001")
    assert await genieacs.switch_on(device) == DONE
    assert cpe.read(CODE) == "S-1000"


async def test_cpe_without_a_product_class_is_found(server: GenieAcsServer, genieacs: GenieAcs) -> None:
    cpe = tr_181_cpe("CPE 7", product_class="")
    server.acs.add(cpe)
    assert await genieacs.switch_on(LineDevice("S-1000", "", oui="00D09E", serial="CPE 7")) == DONE
    assert cpe.read(CODE) == "S-1000"


@pytest.mark.parametrize("switch", [GenieAcs.switch_on, GenieAcs.switch_off])
async def test_mac_address_of_several_cpes_is_ambiguous(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe, switch: Callable[[GenieAcs, LineDevice], object]
) -> None:
    server.acs.add(tr_181_cpe("CPE000005", mac=cpe.mac.lower()))
    with pytest.raises(AmbiguousDeviceError, match="00D09E-HGW%2D1-CPE000001, 00D09E-HGW%2D1-CPE000005"):
        await switch(genieacs, line(cpe, cpe.mac.lower()))  # type: ignore[misc]
    assert not any(one.startswith(("POST", "DELETE")) for one in server.requests)


@pytest.mark.parametrize("identity", ["CPE000001", "00D09E-HGW-1-CPE000001", "00D09-HGW-1", "00D09E--1"])
async def test_identity_of_neither_form_is_refused(genieacs: GenieAcs, cpe: Cpe, identity: str) -> None:
    with pytest.raises(ControllerRefusedError, match="neither a MAC address nor OUI-ProductClass-SerialNumber"):
        await genieacs.switch_on(line(cpe, identity))


async def test_cpe_deleted_at_the_acs_during_the_call_is_unseen(server: GenieAcsServer, genieacs: GenieAcs) -> None:
    cpe = tr_181_cpe("CPE000001")
    server.acs.add(cpe)
    cpe.before_rpc = lambda: server.acs.delete_device(cpe.id)
    with pytest.raises(DeviceNotSeenError):
        await genieacs.switch_on(line(cpe))


async def test_switch_off_keeps_the_tags_and_tasks_of_others(
    server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe
) -> None:
    cpe.reachability = Reachability.OFFLINE
    server.acs.devices[cpe.id].tags.append("wholesale")
    server.acs.insert({"name": "reboot", "device": cpe.id})
    await genieacs.switch_on(line(cpe))
    assert await genieacs.switch_off(line(cpe)) == DONE
    assert (server.acs.devices[cpe.id].tags, waiting(server)) == (["wholesale"], ["reboot"])


async def test_switch_off_of_a_shared_cpe_changes_nothing(server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe) -> None:
    await genieacs.switch_on(line(cpe))
    assert await genieacs.switch_off(line(cpe, shared=True)) == DONE
    assert server.acs.devices[cpe.id].tags == ["lastmile"]


async def test_no_password_is_read(server: GenieAcsServer, genieacs: GenieAcs, cpe: Cpe) -> None:
    await genieacs.switch_on(line(cpe))
    assert not any("password" in path.lower() for path in server.acs.devices[cpe.id].known)
    assert not any("password" in unquote(one).lower() for one in server.requests)


@pytest.mark.parametrize(
    "path", ["Device.PPP.Interface.1.Password", "Device.WiFi.AccessPoint.1.Security.KeyPassphrase"]
)
def test_path_of_a_password_is_refused_in_the_options(path: str) -> None:
    with pytest.raises(ValidationError, match="must not be the path of a password"):
        CpeModel(provisioning_code=CODE, values={path: "x"})
