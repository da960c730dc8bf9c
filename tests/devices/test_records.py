"""Tests of the target state of ONUs and CPEs, and of its undo."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.devices.controllers import LineDevice
from lastmile.devices.records import (
    Device,
    DeviceKind,
    delete_device,
    find_device,
    is_shared,
    restore_service,
    set_target_state,
)
from tests.support.controllers import answered

Act = Callable[..., Awaitable[Any]]
ONU = "ABCD00000001"


@pytest.fixture
def act(database: Database) -> Act:
    """Return `act(function, *arguments)`, which runs the function in a transaction of tenant acme."""

    async def in_transaction(function: Callable[..., Awaitable[Any]], *arguments: Any, tenant: str = "acme") -> Any:
        async with database.tenant(tenant) as connection:
            return await function(connection, *arguments)

    return in_transaction


async def wanted(act: Act, order: str, on: bool, identity: str = ONU, kind: DeviceKind = DeviceKind.ONU) -> None:
    await act(set_target_state, "acme", order, "S-1", kind, identity, on)


async def found(act: Act, kind: DeviceKind = DeviceKind.ONU) -> Device | None:
    device: Device | None = await act(find_device, "S-1", kind)
    return device


async def confirmed(owner: asyncpg.Connection) -> bool:
    return bool(await owner.fetchval("SELECT confirmed FROM devices WHERE kind = 'onu'"))


async def test_find_device_without_an_order_returns_none(act: Act) -> None:
    assert await found(act) is None


async def test_set_target_state_records_the_device_and_its_order(act: Act) -> None:
    await wanted(act, "o1", True)
    assert await found(act) == Device(ONU, True, "o1", "o1")
    assert await found(act, DeviceKind.CPE) is None
    assert await act(find_device, "S-1", DeviceKind.ONU, tenant="other") is None


async def test_repeated_target_state_changes_nothing(act: Act, owner: asyncpg.Connection) -> None:
    await wanted(act, "o1", True)
    await act(answered, "o1", DeviceKind.ONU, LineDevice("S-1", ONU), True)
    before = await owner.fetch("SELECT * FROM devices")
    for order in ("o1", "o2"):
        await wanted(act, order, True)
    assert await owner.fetch("SELECT * FROM devices") == before


async def test_restore_service_by_another_order_changes_nothing(act: Act) -> None:
    await wanted(act, "o1", True)
    await wanted(act, "o2", False)
    assert await found(act) == Device(ONU, False, "o1", "o2")
    assert await act(restore_service, "o1", "S-1", DeviceKind.ONU) is False
    assert await act(restore_service, "o2", "S-1", DeviceKind.ONU) is True
    assert await act(restore_service, "o2", "S-1", DeviceKind.ONU) is False
    device = await found(act)
    assert device is not None
    assert (device.in_service, device.created_by_order) == (True, "o1")


async def test_delete_device_by_another_order_changes_nothing(act: Act) -> None:
    await wanted(act, "o1", True)
    await wanted(act, "o2", False)
    await wanted(act, "o3", True, "ABCD00000002")
    assert await found(act) == Device("ABCD00000002", True, "o3", "o3")
    await act(delete_device, "o1", "S-1", DeviceKind.ONU)
    assert await found(act) is not None
    await act(delete_device, "o3", "S-1", DeviceKind.ONU)
    assert await found(act) is None


async def test_undo_of_another_order_keeps_the_device(act: Act) -> None:
    await wanted(act, "o1", True)
    await wanted(act, "o2", True)
    await act(delete_device, "o2", "S-1", DeviceKind.ONU)
    assert await found(act) == Device(ONU, True, "o1", "o1")


async def test_answer_about_an_outdated_state_changes_nothing(act: Act, owner: asyncpg.Connection) -> None:
    async def answer(on: bool) -> None:
        await act(answered, "o1", DeviceKind.ONU, LineDevice("S-1", ONU), on)

    await wanted(act, "o1", True)
    await answer(True)
    assert await confirmed(owner)
    await wanted(act, "o2", False)
    assert not await confirmed(owner)
    await answer(True)  # a late one
    assert not await confirmed(owner)
    await answer(False)
    assert await confirmed(owner)


async def test_is_shared_of_two_lines_is_true_until_one_leaves(act: Act) -> None:
    for subscriber in ("S-1", "S-2"):
        await act(set_target_state, "acme", "o1", subscriber, DeviceKind.ONU, ONU, True)
    assert await act(is_shared, "S-1", DeviceKind.ONU, ONU) is True
    assert await act(is_shared, "S-1", DeviceKind.CPE, ONU) is False
    assert await act(is_shared, "S-1", DeviceKind.ONU, ONU, tenant="other") is False
    await act(set_target_state, "acme", "o2", "S-1", DeviceKind.ONU, ONU, False)
    assert await act(is_shared, "S-2", DeviceKind.ONU, ONU) is False
    assert await act(is_shared, "S-1", DeviceKind.ONU, ONU) is True, "the second line is in service"


async def test_find_device_separates_onu_and_cpe(act: Act) -> None:
    await wanted(act, "o1", True)
    await wanted(act, "o1", True, "00:1a:2b:3c:4d:5e", DeviceKind.CPE)
    await act(delete_device, "o1", "S-1", DeviceKind.ONU)
    assert await found(act) is None
    assert await found(act, DeviceKind.CPE) == Device("00:1a:2b:3c:4d:5e", True, "o1", "o1")
