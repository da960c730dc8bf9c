"""The driver in each situation that a real VOLTHA was seen in: what it says, and what becomes of the ONU."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from voltha_protos.common_pb2 import AdminState

from lastmile.devices.controllers import DONE, Outcome
from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import (
    AmbiguousDeviceError,
    ControllerRefusedError,
    ControllerUnavailableError,
    DeviceNotSeenError,
)
from lastmile.devices.voltha import driver
from lastmile.devices.voltha.controller import VolthaController
from lastmile.devices.voltha.options import VolthaOptions
from lastmile.devstack.voltha import VolthaModel, VolthaServer
from lastmile.errors import InvalidInputError
from tests.devices.voltha.lines import ONU, SECOND, SETTLED, flows, line, vlans
from tests.support.other_servers import certificate, tls

UNTAGGED = 0x1000
S, C = UNTAGGED | 100, UNTAGGED | 7
IN_SERVICE = sorted([(0, [UNTAGGED], [C]), (1, [C], [S]), (0, [S], []), (1, [C], [UNTAGGED])])
RATES = {"download_kbps": 100_000, "upload_kbps": 50_000}
CHANGES = {"EnableDevice", "DisableDevice", "UpdateLogicalDeviceFlowTable", "UpdateLogicalDeviceMeterTable"}


@pytest.fixture
async def tagged(server: VolthaServer) -> AsyncIterator[VolthaController]:
    """Return a client for ONUs at whose Ethernet port frames have the tag of their line."""
    options = VolthaOptions(settle_seconds=SETTLED, c_vlan_at_uni=True)
    async with driver.open(Endpoint(server.url), options) as client:
        yield client


async def test_check_names_the_product_and_its_version(controller: VolthaController) -> None:
    assert await controller.check() == "VOLTHA 3.7.13"


# Activation


async def test_switch_on_brings_the_line_into_service(controller: VolthaController, model: VolthaModel) -> None:
    assert await controller.switch_on(line()) == DONE
    assert vlans(model) == IN_SERVICE
    assert model.onu(ONU).reason == "omci-flows-pushed"
    assert list(model.rates.values()) == [1_000_000, 1_000_000]


async def test_switch_on_of_a_line_in_service_changes_nothing(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line())
    model.asked.clear()
    assert await controller.switch_on(line()) == DONE
    assert CHANGES.isdisjoint(model.asked)


async def test_switch_on_before_discovery_says_that_the_onu_was_not_seen(controller: VolthaController) -> None:
    with pytest.raises(DeviceNotSeenError, match=f"has not discovered ONU {SECOND} yet"):
        await controller.switch_on(line(SECOND))


async def test_switch_on_finds_an_onu_whose_serial_number_voltha_writes_in_lower_case(
    controller: VolthaController, model: VolthaModel
) -> None:
    model.plug_in("ACME0000abcd")
    assert await controller.switch_on(line("ACME0000ABCD")) == DONE


async def test_switch_on_without_power_waits_and_writes_no_flows(
    controller: VolthaController, model: VolthaModel
) -> None:
    model.cut_power(ONU)
    assert await controller.switch_on(line()) == Outcome(f"ONU {ONU} has no power or no signal")
    assert flows(model) == []
    model.restore_power(ONU)
    assert await controller.switch_on(line()) == DONE


async def test_switch_on_of_a_disabled_onu_without_power_enables_it_and_waits(
    controller: VolthaController, model: VolthaModel
) -> None:
    model.cut_power(ONU)
    await controller.switch_off(line())
    assert await controller.switch_on(line()) == Outcome(f"ONU {ONU} has no power or no signal")
    assert model.onu(ONU).admin_state == AdminState.ENABLED


async def test_switch_on_waits_for_flows_that_the_core_takes_back(
    controller: VolthaController, model: VolthaModel
) -> None:
    model.faults.no_effect = True
    outcome = await controller.switch_on(line())
    assert outcome == Outcome(f"VOLTHA accepted the flows of ONU {ONU}, and has not applied them")
    model.faults.no_effect = False
    assert await controller.switch_on(line()) == DONE


async def test_switch_on_waits_for_an_onu_that_has_not_taken_over_its_flows(
    controller: VolthaController, model: VolthaModel
) -> None:
    await controller.switch_on(line())
    model.onu(ONU).reason = "tech-profile-config-download-failed"
    assert await controller.switch_on(line()) == Outcome(f"ONU {ONU} has not taken over its configuration")


async def test_concurrent_switch_on_of_one_line_is_done_for_both(
    controller: VolthaController, model: VolthaModel
) -> None:
    """Both find the ONU disabled, and VOLTHA refuses the second request to enable it."""
    await controller.switch_off(line())
    assert await asyncio.gather(*[controller.switch_on(line()) for _ in range(2)]) == [DONE, DONE]
    assert model.asked.count("EnableDevice") == 2
    assert vlans(model) == IN_SERVICE


async def test_switch_on_waits_for_an_onu_that_was_disabled_and_takes_over_no_flows(
    controller: VolthaController, model: VolthaModel
) -> None:
    await controller.switch_off(line())
    model.faults.onu_silent = True
    assert await controller.switch_on(line()) == Outcome(f"ONU {ONU} has not taken over its configuration")
    assert model.onu(ONU).reason == "onu-reenabled"


async def test_switch_on_of_an_onu_that_was_enabled_again_writes_its_flows_again(
    controller: VolthaController, model: VolthaModel
) -> None:
    """VOLTHA does not say whether such an ONU has taken over the flows that it had."""
    await controller.switch_on(line())
    model.enable_again(ONU)
    assert await controller.switch_on(line()) == DONE
    assert model.onu(ONU).reason == "omci-flows-pushed"
    assert vlans(model) == IN_SERVICE


async def test_switch_on_waits_for_an_onu_that_loses_power_meanwhile(
    controller: VolthaController, model: VolthaModel
) -> None:
    call = asyncio.create_task(controller.switch_on(line()))
    while model.onu(ONU).reason != "omci-flows-pushed":  # noqa: ASYNC110 -- the stand-in has no event for it
        await asyncio.sleep(0.001)
    model.cut_power(ONU)
    assert await call == Outcome(f"ONU {ONU} has no power or no signal")


async def test_switch_on_repairs_flows_with_another_meter(controller: VolthaController, model: VolthaModel) -> None:
    """As another program has left them. The OLT does not change the meter of a flow."""
    await controller.switch_on(line())
    expected = [flow.SerializeToString() for flow in flows(model)]
    for flow in flows(model):
        flow.instructions[1].meter.meter_id = 1
    assert await controller.switch_on(line()) == DONE
    assert [flow.SerializeToString() for flow in flows(model)] == expected


@pytest.mark.parametrize("lacking", ["s_vlan", "c_vlan"])
async def test_line_without_a_vlan_is_refused(controller: VolthaController, lacking: str) -> None:
    with pytest.raises(ControllerRefusedError, match="lacks an S-VLAN or a C-VLAN"):
        await controller.switch_on(line(**{lacking: None}))


# Deactivation


async def test_switch_off_removes_the_flows_and_disables_the_onu(
    controller: VolthaController, model: VolthaModel
) -> None:
    await controller.switch_on(line())
    assert await controller.switch_off(line()) == DONE
    assert flows(model) == []
    assert [table.meters for table in model.tables.values()] == [{}]
    assert model.onu(ONU).admin_state == AdminState.DISABLED
    assert "DeleteDevice" not in model.asked


async def test_switch_off_of_a_line_out_of_service_changes_nothing(
    controller: VolthaController, model: VolthaModel
) -> None:
    await controller.switch_on(line())
    await controller.switch_off(line())
    model.asked.clear()
    assert await controller.switch_off(line()) == DONE
    assert CHANGES.isdisjoint(model.asked)


async def test_switch_off_waits_for_what_voltha_has_not_done(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line())
    model.faults.no_effect = True
    assert await controller.switch_off(line()) == Outcome(f"VOLTHA has not removed the flows of ONU {ONU} yet")
    model.lose_flows()
    assert await controller.switch_off(line()) == Outcome(f"VOLTHA has not disabled ONU {ONU} yet")
    model.faults.no_effect = False
    assert await controller.switch_off(line()) == DONE


async def test_switch_off_disables_an_onu_whose_flows_stay_for_now(
    controller: VolthaController, model: VolthaModel
) -> None:
    await controller.switch_on(line())
    model.faults.removals_fail = True
    assert await controller.switch_off(line()) == Outcome(f"VOLTHA has not removed the flows of ONU {ONU} yet")
    assert model.onu(ONU).admin_state == AdminState.DISABLED
    assert len(flows(model)) == 4
    model.faults.removals_fail = False
    assert await controller.switch_off(line()) == DONE
    assert flows(model) == []


async def test_switch_off_of_an_unknown_onu_is_done(controller: VolthaController) -> None:
    assert await controller.switch_off(line(SECOND)) == DONE


async def test_switch_off_needs_no_vlans(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line())
    assert await controller.switch_off(line(s_vlan=None, c_vlan=None)) == DONE
    assert flows(model) == []


async def test_switch_off_leaves_the_other_onus_of_the_olt_alone(
    controller: VolthaController, model: VolthaModel
) -> None:
    """The lines have the same C-VLAN, as is usual with one S-VLAN for each PON port."""
    model.plug_in(SECOND)
    await controller.switch_on(line(SECOND, s_vlan=200))
    before = {flow.cookie: flow for flow in flows(model)}
    await controller.switch_on(line())
    assert len(flows(model)) == 8
    await controller.switch_off(line())
    assert {flow.cookie: flow for flow in flows(model)} == before
    assert model.onu(SECOND).admin_state == AdminState.ENABLED


async def test_line_in_service_again_after_switch_off(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line())
    await controller.switch_off(line())
    assert await controller.switch_on(line()) == DONE
    assert vlans(model) == IN_SERVICE


# Speeds


async def test_switch_on_gives_the_line_the_rates_of_its_plan(controller: VolthaController, model: VolthaModel) -> None:
    assert await controller.switch_on(line(**RATES)) == DONE
    assert sorted(model.rates.values()) == [50_000, 100_000]
    assert await controller.switch_on(line()) == DONE
    assert sorted(model.rates.values()) == [50_000, 100_000], "rates that are not known stay"


async def test_set_speed_gives_the_line_its_rates(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line())
    assert await controller.set_speed(line(**RATES)) == DONE
    assert sorted(model.rates.values()) == [50_000, 100_000]
    assert vlans(model) == IN_SERVICE


async def test_set_speed_to_the_present_rates_changes_nothing(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line())
    await controller.set_speed(line(**RATES))
    model.asked.clear()
    assert await controller.set_speed(line(**RATES)) == DONE
    assert CHANGES.isdisjoint(model.asked)


async def test_set_speed_without_power_holds_when_the_onu_is_back(
    controller: VolthaController, model: VolthaModel
) -> None:
    await controller.switch_on(line())
    model.cut_power(ONU)
    outcome = await controller.set_speed(line(**RATES))
    assert outcome == Outcome(f"ONU {ONU} has no power or no signal")
    model.restore_power(ONU)
    assert await controller.switch_on(line()) == DONE
    assert sorted(model.rates.values()) == [50_000, 100_000]


async def test_set_speed_waits_while_the_old_flows_stay(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line())
    model.faults.removals_fail = True
    outcome = await controller.set_speed(line(**RATES))
    assert outcome == Outcome(f"VOLTHA has not removed the flows of ONU {ONU} yet")
    model.faults.removals_fail = False
    assert await controller.switch_on(line(**RATES)) == DONE, "the reconciler repeats this call"
    assert sorted(model.rates.values()) == [50_000, 100_000]


async def test_set_speed_leaves_the_other_lines_alone(controller: VolthaController, model: VolthaModel) -> None:
    model.plug_in(SECOND)
    await controller.switch_on(line(SECOND, s_vlan=200))
    before = dict(model.rates)
    await controller.switch_on(line())
    await controller.set_speed(line(**RATES))
    assert before.items() <= model.rates.items()


# Lines that share an ONU


async def test_switch_off_of_a_shared_onu_leaves_the_other_line_in_service(
    tagged: VolthaController, model: VolthaModel
) -> None:
    await tagged.switch_on(line(c_vlan=8))
    before = {flow.cookie: flow for flow in flows(model)}
    rates = dict(model.rates)
    await tagged.switch_on(line())
    assert len(flows(model)) == 8
    await tagged.set_speed(line(shared=True, **RATES))
    assert rates.items() <= model.rates.items()
    assert await tagged.switch_off(line(shared=True)) == DONE
    assert {flow.cookie: flow for flow in flows(model)} == before
    assert model.rates == rates
    assert model.onu(ONU).admin_state == AdminState.ENABLED


async def test_second_line_on_an_untagged_port_is_refused(controller: VolthaController, model: VolthaModel) -> None:
    await controller.switch_on(line(c_vlan=8))
    before = vlans(model)
    with pytest.raises(ControllerRefusedError, match="Another line is on the Ethernet port of ONU"):
        await controller.switch_on(line())
    assert await controller.switch_off(line(shared=True)) == DONE
    assert vlans(model) == before
    assert model.onu(ONU).admin_state == AdminState.ENABLED


async def test_rates_of_one_line_on_an_untagged_port_are_refused(controller: VolthaController) -> None:
    with pytest.raises(ControllerRefusedError, match="all of them have the same rates"):
        await controller.set_speed(line(shared=True, **RATES))


# The core


async def test_switch_on_restores_flows_and_rates_that_a_restart_has_lost(
    controller: VolthaController, server: VolthaServer, model: VolthaModel
) -> None:
    await controller.switch_on(line())
    await controller.set_speed(line(**RATES))
    await server.stop()
    with pytest.raises(ControllerUnavailableError, match="does not answer"):
        await controller.switch_on(line())
    model.lose_flows()
    model.rates.clear()
    await server.start()
    assert await answered(controller) == DONE
    assert vlans(model) == IN_SERVICE
    assert sorted(model.rates.values()) == [50_000, 100_000]


async def answered(controller: VolthaController) -> Outcome:
    """Switch the line on, as soon as the channel is connected again."""
    while True:
        try:
            return await controller.switch_on(line())
        except ControllerUnavailableError:
            await asyncio.sleep(0.05)


async def test_unavailable_core_is_an_outage_in_our_words(controller: VolthaController, model: VolthaModel) -> None:
    model.faults.unavailable = True
    for call in (controller.switch_on(line()), controller.switch_off(line()), controller.check()):
        with pytest.raises(ControllerUnavailableError) as failure:
            await call
        assert "does not answer" in str(failure.value)
        assert "not ready" not in str(failure.value)
        assert failure.value.__cause__ is failure.value.__context__ is None


async def test_slow_core_is_an_outage(server: VolthaServer, model: VolthaModel) -> None:
    model.faults.slow_seconds = 3
    async with driver.open(Endpoint(server.url, timeout_seconds=0.2), VolthaOptions()) as impatient:
        with pytest.raises(ControllerUnavailableError, match="does not answer in time"):
            await impatient.switch_on(line())


async def test_requests_at_once_are_bounded(server: VolthaServer, model: VolthaModel) -> None:
    model.faults.slow_seconds = 0.02
    async with driver.open(Endpoint(server.url, in_flight=2), VolthaOptions(settle_seconds=SETTLED)) as bounded:
        await asyncio.gather(*[bounded.check() for _ in range(10)])
    assert server.most_at_once == 2


@pytest.mark.parametrize("reachable", [1, 2])
async def test_onu_that_two_olts_have_seen_counts_where_it_is_reachable(
    controller: VolthaController, model: VolthaModel, reachable: int
) -> None:
    if reachable == 1:
        model.cut_power(ONU)
    there = model.add_olt("127.0.0.1:50070")
    model.plug_in(ONU, there)
    if reachable == 2:
        with pytest.raises(AmbiguousDeviceError, match=f"2 ONUs with serial number {ONU}"):
            await controller.switch_on(line())
        assert flows(model) == []
    else:
        assert await controller.switch_on(line()) == DONE
        assert [len(table.flows) for table in model.tables.values() if table.olt == there] == [4]


async def test_tls_trusts_the_ca_file_alone(server: VolthaServer, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    async with tls(server.url, made) as url:
        address = url.replace("https://", "grpcs://")
        async with driver.open(Endpoint(address, ca_file=made[0]), VolthaOptions()) as trusting:
            assert await trusting.check() == "VOLTHA 3.7.13"
        async with driver.open(Endpoint(address), VolthaOptions()) as distrusting:
            with pytest.raises(ControllerUnavailableError):
                await distrusting.check()


async def test_ca_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        async with driver.open(Endpoint("grpcs://core:50057", ca_file=tmp_path / "none.pem"), VolthaOptions()):
            pass


@pytest.mark.parametrize(
    "url", ["https://core:50057", "core:50057", "grpc://core", "grpc://core:port", "grpc://:50057", "grpc://core:1/x"]
)
async def test_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError, match="grpc://host:port"):
        async with driver.open(Endpoint(url), VolthaOptions()):
            pass
