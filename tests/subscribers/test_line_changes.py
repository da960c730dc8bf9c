"""Tests of changes of a line's network profile: a change to another device removes the fields of the former one."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lastmile.contract.lines import Customer, Line
from lastmile.subscribers.errors import RecordConflictError
from lastmile.subscribers.line_changes import (
    change_line,
    change_speed_profile,
    restore_line,
    restore_speed_profile,
)
from lastmile.subscribers.records import create_customer, create_network_profile, create_subscriber, read_line

Act = Callable[..., Coroutine[Any, Any, Any]]

TR069 = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE000002"}
NO_TR069 = dict.fromkeys(TR069)


async def provisioned(act: Act, ada: Customer, line: Line) -> None:
    await act(create_customer, "acme", "o1", ada)
    subscriber = await act(create_subscriber, "acme", "o1", "S-1", "C-1")
    await act(create_network_profile, "acme", "o1", subscriber, line)


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"onu_serial": "ABCD00000002"}, {"onu_type": None}),
        ({"onu_serial": "ABCD00000002", "onu_type": "F670"}, {}),
        ({"onu_serial": "ABCD00000001", "speed_profile": "1G"}, {}),
        ({"onu_type": "F670"}, {}),
        ({"cpe_mac": "00:1a:2b:3c:4d:5f"}, NO_TR069 | {"duid": None}),
        ({"cpe_mac": "00:1a:2b:3c:4d:5f", "duid": "000300011b"}, NO_TR069),
        (TR069, {"cpe_mac": None, "duid": None}),
        ({"cpe_oui": "00D09F", "cpe_serial": "1"}, {"cpe_mac": None, "cpe_product_class": None, "duid": None}),
        # The same CPE by one of its names: the others are corrected.
        ({"cpe_mac": "00:1a:2b:3c:4d:5e"} | TR069, {}),
        ({"cpe_mac": "00:1a:2b:3c:4d:5f"} | TR069 | {"cpe_serial": "CPE000001"}, {}),
        ({"duid": "00:03:00:01:1b"}, {}),
        ({"pon_port": "1/1/5"}, {}),
    ],
)
async def test_change_line_to_another_device_removes_the_fields_of_the_former_one(
    act: Act, ada: Customer, line: Line, changes: dict[str, Any], lost: dict[str, None]
) -> None:
    await provisioned(act, ada, line)

    _, before, after = await act(change_line, "acme", "o2", "S-1", changes)

    assert before == line
    assert after == Line.model_validate(line.model_dump() | lost | changes)
    assert await act(read_line, "S-1") == after
    assert await act(restore_line, "o2", "S-1")
    assert await act(read_line, "S-1") == line


async def test_change_line_to_a_first_device_keeps_what_is_known_of_it(act: Act, ada: Customer) -> None:
    """The order of the line named the type of the ONU, and the technician has read its serial number."""
    known = Line(connection_type="ftth", onu_type="F660", duid="000300011a")
    await provisioned(act, ada, known)
    named = {"onu_serial": "ABCD00000001", "cpe_mac": "00:1a:2b:3c:4d:5e"}
    _, _, after = await act(change_line, "acme", "o2", "S-1", named)
    assert after == known.model_copy(update=named)


async def test_change_line_to_a_cpe_without_the_mac_address_that_logs_in_is_refused(act: Act, ada: Customer) -> None:
    by_mac = Line(connection_type="ftth", cpe_mac="00:1a:2b:3c:4d:5e", access="ipoe", identified_by="mac")
    await provisioned(act, ada, by_mac)
    with pytest.raises(RecordConflictError, match="cpe_mac: the line logs in by the MAC address of its CPE"):
        await act(change_line, "acme", "o2", "S-1", TR069)
    assert await act(read_line, "S-1") == by_mac


@pytest.mark.parametrize("profile", ["1G", None])
async def test_restore_speed_profile_gives_the_first_profile_back(
    act: Act, ada: Customer, line: Line, profile: str | None
) -> None:
    await provisioned(act, ada, line)
    assert await act(change_speed_profile, "acme", "o2", "S-1", profile) == ("500M", profile)
    assert await act(change_speed_profile, "acme", "o2", "S-1", profile) == (profile, profile)
    assert (await act(read_line, "S-1")).speed_profile == profile
    await act(restore_speed_profile, "o2", "S-1")
    await act(restore_speed_profile, "o2", "S-1")
    assert await act(read_line, "S-1") == line


async def test_restore_speed_profile_by_another_order_changes_nothing(act: Act, ada: Customer, line: Line) -> None:
    await provisioned(act, ada, line)
    await act(change_speed_profile, "acme", "o2", "S-1", "1G")
    await act(restore_speed_profile, "o3", "S-1")
    assert (await act(read_line, "S-1")).speed_profile == "1G"
