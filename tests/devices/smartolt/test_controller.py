"""The driver in each situation that public clients of SmartOLT tell of: what it says, and how many calls it makes."""

import asyncio

import pytest

from lastmile.devices.controllers import DONE, Outcome
from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import (
    AmbiguousDeviceError,
    ControllerRefusedError,
    ControllerUnavailableError,
    DeviceNotSeenError,
)
from lastmile.devices.smartolt import driver
from lastmile.devices.smartolt.controller import SmartOlt
from lastmile.devstack.smartolt import SmartOltServer
from lastmile.devstack.smartolt.account import AccountOnu
from lastmile.devstack.smartolt.faults import SmartOltFault
from tests.devices.smartolt.lines import ONU, OPTIONS, line

LIST = "GET onu/unconfigured_onus_for_olt/1"
AUTHORIZE = "POST onu/authorize_onu"
DETAILS = f"GET onu/get_onus_details_by_sn/{ONU}"
DISABLE = f"POST onu/disable/{ONU}"


async def test_check_counts_the_olts_of_the_account(smartolt: SmartOlt) -> None:
    assert await smartolt.check() == "SmartOLT, OLTs: 2"


# Into service


async def test_switch_on_authorizes_a_discovered_onu(smartolt: SmartOlt, onu: AccountOnu) -> None:
    assert await smartolt.switch_on(line(onu_type="HG8546M", speed_profile="100M")) == DONE
    assert onu.in_service
    assert onu.authorized == {
        "olt_id": "1",
        "pon_type": "gpon",
        "board": "0",
        "port": "4",
        "sn": ONU,
        "onu_type": "HG8546M",
        "onu_mode": "Bridging",
        "zone": "Zone 1",
        "name": "S-1000",
        "onu_external_id": ONU,
        "vlan": "7",
        "svlan": "100",
        "cvlan": "7",
        "tag_transform_mode": "translate-and-add",
        "upload_speed_profile_name": "100M",
        "download_speed_profile_name": "100M",
    }


async def test_switch_on_without_type_profile_and_port_takes_what_is_known(smartolt: SmartOlt, onu: AccountOnu) -> None:
    assert await smartolt.switch_on(line(pon_port=None, c_vlan=None)) == DONE
    assert onu.authorized is not None
    given = {name: onu.authorized.get(name) for name in ("board", "port", "onu_type", "vlan", "svlan")}
    assert given == {"board": "0", "port": "4", "onu_type": "HG8245H", "vlan": "100", "svlan": None}
    assert onu.authorized["download_speed_profile_name"] == "1G"


async def test_switch_on_of_many_lines_makes_one_call_for_each(smartolt: SmartOlt, server: SmartOltServer) -> None:
    serials = [f"ACME000000{nth:02}" for nth in range(20)]
    onus = [server.account.add(AccountOnu(serial)) for serial in serials]
    assert await asyncio.gather(*(smartolt.switch_on(line(serial)) for serial in serials)) == [DONE] * 20
    assert all(onu.in_service for onu in onus)
    assert sorted(server.requests) == [LIST] + [AUTHORIZE] * 20


async def test_switch_on_of_unseen_onus_makes_one_call_for_each(smartolt: SmartOlt, server: SmartOltServer) -> None:
    for nth in range(3):
        with pytest.raises(DeviceNotSeenError, match="olt-1 has not discovered ONU ACME0000000"):
            await smartolt.switch_on(line(f"ACME0000000{nth}"))
    assert server.requests == [LIST, *(f"GET onu/get_onus_details_by_sn/ACME0000000{nth}" for nth in range(3))]


async def test_switch_on_of_an_authorized_onu_is_done_by_reading(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu, onu_external_id="by-hand")
    assert await smartolt.switch_on(line()) == DONE
    assert server.requests == [LIST, DETAILS]


async def test_switch_on_of_an_onu_that_another_client_has_just_authorized_is_done(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.add(AccountOnu("ACME00000002"))
    await smartolt.switch_on(line("ACME00000002"))  # reads the list, with both ONUs
    server.account.authorize(onu)
    assert await smartolt.switch_on(line()) == DONE
    assert server.requests[2:] == [AUTHORIZE, DETAILS]


@pytest.mark.parametrize("enabled", [True, False])
async def test_switch_on_of_an_onu_without_power_waits(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu, enabled: bool
) -> None:
    server.account.authorize(onu)
    onu.plugged, onu.enabled = False, enabled
    assert await smartolt.switch_on(line()) == Outcome(f"ONU {ONU} is not online (Power fail)")
    assert onu.in_service


async def test_switch_on_of_an_onu_in_service_elsewhere_is_refused(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu, port="5")
    with pytest.raises(
        ControllerRefusedError, match=r"at OLT 1, board 0, port 5, VLAN 7 .* the order says OLT 1, board 0"
    ):
        await smartolt.switch_on(line())
    assert onu.in_service


async def test_switch_on_of_an_onu_with_the_vlan_of_another_line_is_refused(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu, vlan="8")
    with pytest.raises(ControllerRefusedError, match="VLAN 8"):
        await smartolt.switch_on(line())


async def test_switch_on_of_a_disabled_onu_gives_it_the_profile_of_its_line(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    """Another line had it, with another plan."""
    await smartolt.switch_on(line(speed_profile="100M"))
    await smartolt.switch_off(line())
    assert await smartolt.switch_on(line(speed_profile="1G")) == DONE
    assert onu.in_service
    assert onu.authorized is not None
    assert onu.authorized["upload_speed_profile_name"] == onu.authorized["download_speed_profile_name"] == "1G"


async def test_onu_whose_state_smartolt_does_not_say_is_left_alone(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu)
    onu.says = "Suspended"
    server.fail_next(SmartOltFault.REFUSED, path="disable")
    for call in (smartolt.switch_off(line()), smartolt.switch_on(line(pon_port="0/9/9"))):
        with pytest.raises(ControllerRefusedError, match=f"ONU {ONU}"):
            await call
    assert onu.in_service


async def test_full_port_is_refused_and_leaves_the_account_its_calls(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.fail_next(SmartOltFault.PORT_FULL, path="authorize_onu")
    with pytest.raises(ControllerRefusedError, match="ONU limit reached on this PON port"):
        await smartolt.switch_on(line())
    assert await smartolt.switch_on(line()) == DONE


async def test_switch_off_that_cannot_look_the_onu_up_is_not_done(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu)
    server.fail_next(SmartOltFault.REFUSED, path="disable")
    server.fail_next(SmartOltFault.REFUSED, path="get_onus_details")
    with pytest.raises(ControllerUnavailableError, match="does not tell whether it has ONU"):
        await smartolt.switch_off(line())


async def test_switch_on_of_a_disabled_onu_that_has_moved_authorizes_it_at_its_new_place(
    smartolt: SmartOlt, server: SmartOltServer
) -> None:
    old = server.account.authorize(server.account.add(AccountOnu(ONU, olt_id="2", plugged=False)))
    new = server.account.add(AccountOnu(ONU))
    await smartolt.switch_off(line(olt="olt-2"))
    assert await smartolt.switch_on(line()) == DONE
    assert (old.authorized, new.in_service) == (None, True)


async def test_switch_on_of_a_disabled_onu_with_another_vlan_waits_for_its_discovery(
    server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu, vlan="8").enabled = False
    endpoint = Endpoint(server.url, secret="correct")
    async with driver.open(endpoint, OPTIONS) as smartolt:
        assert await smartolt.switch_on(line()) == Outcome(f"SmartOLT is discovering ONU {ONU} again")
    async with driver.open(endpoint, OPTIONS) as smartolt:  # as when the list is read again
        assert await smartolt.switch_on(line()) == DONE
    assert onu.authorized is not None
    assert onu.authorized["vlan"] == "7"


async def test_switch_on_at_another_port_than_the_discovered_one_is_refused(
    smartolt: SmartOlt, onu: AccountOnu
) -> None:
    onu.port = "9"
    with pytest.raises(ControllerRefusedError, match="at board 0, port 9, and the order says PON port 0/0/4"):
        await smartolt.switch_on(line())
    assert not onu.in_service


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"olt": "olt-3"}, "id of OLT olt-3 is not known. .* have: olt-1, olt-2"),
        ({"olt": None}, "The OLT of the line is not known"),
        ({"pon_port": "pon4"}, "PON port pon4 .* as in 0/1/4"),
        ({"s_vlan": None, "c_vlan": None}, "subscriber S-1000 has no VLAN"),
    ],
)
async def test_switch_on_of_an_order_that_lacks_something_says_what_and_makes_no_call(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu, values: dict[str, str | None], reason: str
) -> None:
    with pytest.raises(ControllerRefusedError, match=reason):
        await smartolt.switch_on(line(**values))
    assert server.requests == []


async def test_switch_on_of_an_onu_of_unknown_type_asks_for_the_type(smartolt: SmartOlt, onu: AccountOnu) -> None:
    onu.type_name = ""
    with pytest.raises(ControllerRefusedError, match="`onu_type`"):
        await smartolt.switch_on(line())


async def test_switch_on_that_smartolt_refuses_has_its_reason_without_control_characters(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.fail_next(SmartOltFault.REFUSED, path="authorize_onu")
    with pytest.raises(ControllerRefusedError) as failure:
        await smartolt.switch_on(line())
    assert str(failure.value) == (f"SmartOLT does not authorize ONU {ONU}: The OLT refused the\\x1b[31m command")


async def test_switch_on_of_a_serial_number_with_two_records_is_ambiguous(
    smartolt: SmartOlt, server: SmartOltServer
) -> None:
    for id in ("one", "two"):
        server.account.authorize(server.account.add(AccountOnu(ONU)), onu_external_id=id)
    with pytest.raises(AmbiguousDeviceError, match=f"{ONU}: one, two"):
        await smartolt.switch_on(line())


# Out of service, and rates


async def test_switch_off_is_one_call(smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu) -> None:
    server.account.authorize(onu)
    assert await smartolt.switch_off(line()) == DONE
    assert not onu.enabled
    assert onu.authorized is not None, "an ONU that is deleted is discovered again"
    assert server.requests == [DISABLE]


async def test_switch_off_of_an_onu_with_another_id_finds_it(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu, onu_external_id="by-hand")
    assert await smartolt.switch_off(line()) == DONE
    assert not onu.enabled


async def test_switch_off_that_smartolt_refuses_is_not_done(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu)
    for _ in range(2):
        server.fail_next(SmartOltFault.REFUSED, path="disable")
    with pytest.raises(ControllerRefusedError, match=f"refuses disable of ONU {ONU}: The OLT refused"):
        await smartolt.switch_off(line())


async def test_switch_off_of_a_shared_onu_leaves_it(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu)
    assert await smartolt.switch_off(line(shared=True)) == DONE
    assert onu.in_service
    assert server.requests == []


@pytest.mark.parametrize("external_id", [ONU, "by-hand"])
async def test_set_speed_gives_both_directions_the_profile(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu, external_id: str
) -> None:
    server.account.authorize(onu, onu_external_id=external_id)
    assert await smartolt.set_speed(line(speed_profile="100M")) == DONE
    assert onu.authorized is not None
    assert onu.authorized["upload_speed_profile_name"] == onu.authorized["download_speed_profile_name"] == "100M"


async def test_set_speed_of_an_unknown_profile_is_refused(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu
) -> None:
    server.account.authorize(onu)
    with pytest.raises(ControllerRefusedError, match="The speed profile does not exist"):
        await smartolt.set_speed(line(speed_profile="2G"))


async def test_set_speed_of_an_onu_that_is_not_authorized_says_so(smartolt: SmartOlt, onu: AccountOnu) -> None:
    with pytest.raises(DeviceNotSeenError, match="is not authorized in SmartOLT yet"):
        await smartolt.set_speed(line())


# Faults and the budget


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (SmartOltFault.UNAVAILABLE, r"does not carry out GET /onu/unconfigured_onus_for_olt/1 now \(503\)"),
        (SmartOltFault.REPLY_LOST, "ended before it had answered"),
        (SmartOltFault.REFUSED, "refuses GET /onu/unconfigured_onus_for_olt/1: The OLT refused"),
        (SmartOltFault.OTHER_SERVER, "cannot be read. Is the controller's address"),
        (SmartOltFault.TOO_MANY_CALLS, "no calls left. Lastmile makes the next call at .* UTC, in 10 min"),
        (SmartOltFault.LIMIT_REACHED, "no calls left. Lastmile makes the next call at .* UTC, in 60 min"),
    ],
)
async def test_switch_on_during_a_fault_can_be_repeated(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu, fault: SmartOltFault, reason: str
) -> None:
    server.fail_next(fault)
    with pytest.raises(ControllerUnavailableError, match=reason):
        await smartolt.switch_on(line())


@pytest.mark.parametrize("fault", [SmartOltFault.TOO_MANY_CALLS, SmartOltFault.LIMIT_REACHED])
async def test_call_after_smartolts_limit_is_not_made(
    smartolt: SmartOlt, server: SmartOltServer, onu: AccountOnu, fault: SmartOltFault
) -> None:
    server.fail_next(fault)
    for _ in range(3):
        with pytest.raises(ControllerUnavailableError, match="no calls left"):
            await smartolt.switch_off(line())
    assert server.requests == [DISABLE]


async def test_call_beyond_the_budget_is_not_made(server: SmartOltServer, onu: AccountOnu) -> None:
    options = OPTIONS.model_copy(update={"calls_per_hour": 2})
    async with driver.open(Endpoint(server.url, secret="correct"), options) as smartolt:
        await smartolt.switch_on(line())
        with pytest.raises(
            ControllerUnavailableError, match=r"The 2 calls an hour to SmartOLT are used up.* in 60 min"
        ):
            await smartolt.switch_off(line())
    assert server.requests == [LIST, AUTHORIZE]
    assert onu.in_service
