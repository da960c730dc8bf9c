"""The controllers in the database, and the clients that a worker keeps open for them."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from lastmile.db import Database
from lastmile.devices.controllers import DONE, LineDevice
from lastmile.devices.errors import ControllerRefusedError, ControllerUnavailableError
from lastmile.encryption.keys import KeyRing
from lastmile.services.controllers import (
    ControllerExistsError,
    ControllerScopeError,
    NewController,
    add_controller,
    list_controllers,
    remove_controller,
)
from lastmile.services.open_controllers import ControllerPool
from tests.support.line_controller import LineController

SECRET = "hush-hush"
KEYS = KeyRing.parse(f"k1:{base64.b64encode(bytes(32)).decode()}")

pytestmark = pytest.mark.usefixtures("line_drivers")


def new(name: str = "olts", driver: str = "line-onu", url: str = "line://127.0.0.1:1", **values: Any) -> NewController:
    return NewController.model_validate({"name": name, "driver": driver, "url": url, "secret": SECRET} | values)


async def add(database: Database, *controllers: NewController, keys: KeyRing | None = None, **how: Any) -> None:
    for controller in controllers:
        await add_controller(database, controller, keys, actor="noc", **how)


def onu(nth: int = 1, olt: str = "olt-1", tenant: str = "acme") -> LineDevice:
    return LineDevice("S-1", f"ACME{nth:08X}", olt, tenant=tenant)


@pytest.fixture
async def line_controller() -> AsyncIterator[LineController]:
    async with LineController(SECRET) as server:
        yield server


async def test_secret_is_encrypted_where_there_are_keys(database: Database, owner: asyncpg.Connection) -> None:
    await add(database, new("plain"))
    await add(database, new("sealed", tenant="acme"), keys=KEYS)
    rows = {row["name"]: row for row in await owner.fetch("SELECT name, secret, key_name FROM device_controllers")}
    assert (rows["plain"]["secret"], rows["plain"]["key_name"]) == (SECRET.encode(), None)
    assert SECRET.encode() not in rows["sealed"]["secret"]
    assert rows["sealed"]["key_name"] == "k1"
    plain, sealed = await list_controllers(database)
    assert plain.endpoint(None).secret == sealed.endpoint(KEYS).secret == SECRET
    assert SECRET not in f"{plain!r} {plain.endpoint(None)!r} {plain.facts} {new()!r}"


async def test_audit_log_records_a_controller_without_its_secret(database: Database, owner: asyncpg.Connection) -> None:
    await add(database, new())
    await add(database, new(secret="another"), replace=True)
    await remove_controller(database, "olts", actor="noc")
    entries = await owner.fetch("SELECT * FROM audit_log WHERE record = 'device_controllers' ORDER BY id")
    assert [(entry["action"], entry["actor"], entry["key"]) for entry in entries] == [
        ("created", "noc", "olts"),
        ("changed", "noc", "olts"),
        ("removed", "noc", "olts"),
    ]
    words = " ".join(str(dict(entry)) for entry in entries)
    for secret in (SECRET, "another"):
        assert secret not in words
        assert secret.encode().hex() not in words


async def test_second_controller_of_equal_scope_is_refused(database: Database) -> None:
    await add(database, new("a", olts=["olt-1", "olt-2"]), new("b", tenant="acme", olts=["olt-1"]), new("c"))
    with pytest.raises(ControllerScopeError) as failure:
        await add(database, new("d", olts=["olt-2", "olt-3"]))
    assert str(failure.value) == (
        "Controller a is responsible for OLT olt-1, olt-2 of all tenants. A device can have one controller: give d "
        "another scope (--tenant, --olt), or remove a first."
    )
    with pytest.raises(ControllerScopeError, match="Controller c is responsible for all devices of all tenants"):
        await add(database, new("d"))
    with pytest.raises(ControllerExistsError, match="There is a controller c already"):
        await add(database, new("c", tenant="other"))
    await add(database, new("c", tenant="other"), new("a", olts=["olt-2"]), replace=True)
    await add(database, new("e", "line-cpe"))
    assert [(one.name, str(one.scope)) for one in await list_controllers(database)] == [
        ("a", "OLT olt-2 of all tenants"),
        ("b", "OLT olt-1 of tenant acme"),
        ("c", "all devices of tenant other"),
        ("e", "all devices of all tenants"),
    ]


async def test_equal_scopes_that_are_added_at_once_are_refused_but_one(database: Database) -> None:
    added = await asyncio.gather(*(add(database, new(f"c{n}")) for n in range(6)), return_exceptions=True)
    assert sorted(map(type, added), key=str) == sorted([type(None), *[ControllerScopeError] * 5], key=str)
    assert len(await list_controllers(database)) == 1


async def test_pool_follows_added_changed_and_removed_controllers(
    database: Database, line_controller: LineController
) -> None:
    async with ControllerPool(database, KEYS) as pool, LineController("other") as second:
        router = pool.controllers.onu
        assert not router.controls(onu())
        await add(database, new(url=line_controller.url, options={"zone": "north"}), keys=KEYS)
        await pool.sweep()
        assert await router.switch_on(onu()) == DONE
        assert (line_controller.words, line_controller.told[0]["zone"]) == (["on ACME00000001"], "north")

        await pool.sweep()  # nothing has changed: the client stays
        assert not line_controller.closed.is_set()
        await add(database, new(url=second.url, secret="other"), keys=KEYS, replace=True)
        await pool.sweep()
        await router.switch_off(onu())
        await line_controller.closed.wait()
        assert second.words == ["off ACME00000001"]

        await remove_controller(database, "olts", actor="noc")
        await pool.sweep()
        await second.closed.wait()
        assert not router.controls(onu())


async def test_change_takes_effect_without_a_restart(
    database: Database, line_controller: LineController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ControllerPool, "pause", ControllerPool.pause / 1000)
    async with ControllerPool(database, None) as pool:
        await add(database, new(url=line_controller.url))
        while not pool.controllers.onu.controls(onu()):  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0.01)
    await line_controller.closed.wait()


async def test_removed_controller_ends_its_calls_before_its_client_is_closed(
    database: Database, line_controller: LineController
) -> None:
    await add(database, new(url=line_controller.url))
    async with ControllerPool(database, None) as pool:
        line_controller.answers.clear()
        call = asyncio.create_task(pool.controllers.onu.switch_on(onu()))
        await line_controller.reached.wait()
        held = pool.controllers.onu.routes[0].controller
        await remove_controller(database, "olts", actor="noc")
        await pool.sweep()
        assert not call.done()
        assert not line_controller.closed.is_set()
        line_controller.answers.set()
        assert await call == DONE
        await line_controller.closed.wait()
        with pytest.raises(ControllerUnavailableError, match="Controller olts has just been changed or removed"):
            await held.switch_on(onu())
    assert line_controller.words == ["on ACME00000001"]


async def test_calls_at_once_stay_within_the_limit_of_the_controller(
    database: Database, line_controller: LineController
) -> None:
    await add(database, new(url=line_controller.url, in_flight=2))
    async with ControllerPool(database, None) as pool:
        line_controller.answers.clear()
        calls = asyncio.gather(*(pool.controllers.onu.switch_on(onu(n)) for n in range(20)))
        for _ in range(200):  # turns of the event loop, in which every call that may begin reaches the server
            await asyncio.sleep(0)
        line_controller.answers.set()
        await calls
        assert (line_controller.most_at_once, len(line_controller.words)) == (2, 20)


async def test_controller_that_cannot_be_opened_refuses_calls_until_it_can(
    database: Database, line_controller: LineController, owner: asyncpg.Connection
) -> None:
    """Its devices are controlled: a step must wait, not be skipped."""
    await add(database, new(url=line_controller.url), keys=KEYS)
    with capture_logs() as logs:
        async with ControllerPool(database, None) as pool:
            router = pool.controllers.onu
            assert router.controls(onu())
            with pytest.raises(ControllerUnavailableError) as failure:
                await router.switch_on(onu())
            assert str(failure.value) == (
                "Controller olts cannot be used: The password of controller olts is encrypted with key 'k1', and this "
                "process has no keys. Set LASTMILE_ENCRYPTION_KEYS."
            )
            await pool.sweep()
            await owner.execute("UPDATE device_controllers SET driver = 'line-onus'")
            await pool.sweep()
            with pytest.raises(ControllerUnavailableError, match="There is no driver 'line-onus'"):
                await router.set_speed(onu())
            await add(database, new(url=line_controller.url), replace=True)
            await pool.sweep()
            await router.switch_on(onu())
    assert [entry["reason"][:40] for entry in logs if entry["event"] == "controller.unusable"] == [
        "Controller olts cannot be used: The pass",
        "Controller olts cannot be used: There is",
    ]


async def test_driver_that_fails_on_its_options_keeps_no_other_controller_from_its_work(
    database: Database, line_controller: LineController, owner: asyncpg.Connection
) -> None:
    await add(database, new(url=line_controller.url))
    await add(database, new(name="broken", url=line_controller.url, olts=["olt-9"]))
    await owner.execute("UPDATE device_controllers SET options = '{\"zone\": \"nowhere\"}' WHERE name = 'broken'")
    async with ControllerPool(database, None) as pool:
        await pool.controllers.onu.switch_on(onu())
        with pytest.raises(ControllerUnavailableError) as failure:
            await pool.controllers.onu.switch_on(onu(olt="olt-9"))
    assert str(failure.value) == "Controller broken cannot be used: its driver failed (KeyError)"


async def test_error_that_no_driver_may_raise_reaches_no_caller(
    database: Database, line_controller: LineController
) -> None:
    await add(database, new(url=line_controller.url, options={"fails": True}))
    with capture_logs() as logs:
        async with ControllerPool(database, None) as pool:
            with pytest.raises(ControllerUnavailableError) as failure:
                await pool.controllers.onu.switch_on(onu())
    assert (
        str(failure.value) == "The driver of controller olts failed with KeyError: the log of this process says where."
    )
    failures = [
        (entry["controller"], entry["exc_info"]) for entry in logs if entry["event"] == "controller.driver_failed"
    ]
    assert failures[0] == ("olts", True)


async def test_refusal_of_a_controller_reaches_the_caller_unchanged(
    database: Database, line_controller: LineController
) -> None:
    await add(database, new(url=line_controller.url, secret="wrong"))
    async with ControllerPool(database, None) as pool:
        with pytest.raises(ControllerRefusedError, match=r"^The line controller refuses the password\.$"):
            await pool.controllers.onu.switch_on(onu())


async def test_client_that_ends_by_itself_is_opened_again(database: Database, line_controller: LineController) -> None:
    line_controller.answers.clear()
    await add(database, new(url=line_controller.url, options={"watches": True}))
    with capture_logs() as logs:
        async with ControllerPool(database, None) as pool:
            (first,) = pool.controllers.onu.routes
            await line_controller.reached.wait()
            await pool.sweep()
            assert pool.controllers.onu.routes[0].controller is first.controller, "it is open"
            line_controller.answers.set()
            await first.controller.wait_closed()
            await pool.sweep()
            assert pool.controllers.onu.routes[0].controller is not first.controller
    assert [entry["event"] for entry in logs].count("controller.opened") == 2
