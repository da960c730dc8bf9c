"""The contract of `lastmile.devices.controllers`, which every driver passes against a stand-in on a socket.

A driver joins with an environment (`tests/devices/contract/environment.py`) in `ENVIRONMENTS`.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from lastmile.devices.controllers import DONE, Controller, LineDevice, Outcome
from lastmile.devices.errors import ControllerUnavailableError, DeviceNotSeenError
from tests.devices.contract.environment import ControllerEnv
from tests.devices.contract.genieacs_env import GenieAcsEnv
from tests.devices.contract.smartolt_env import SmartOltEnv
from tests.devices.contract.voltha_env import VolthaEnv

ENVIRONMENTS: list[type[ControllerEnv]] = [GenieAcsEnv, SmartOltEnv, VolthaEnv]

CALLS: dict[str, Callable[[Controller, LineDevice], Awaitable[object]]] = {
    "check": lambda controller, device: controller.check(),
    "switch_on": lambda controller, device: controller.switch_on(device),
    "switch_off": lambda controller, device: controller.switch_off(device),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
with_credentials = pytest.mark.parametrize(
    "env",
    [one for one in ENVIRONMENTS if one.has_credentials],
    ids=lambda one: one.__name__.removesuffix("Env").lower(),
    indirect=True,
)


@pytest.fixture(params=ENVIRONMENTS, ids=lambda one: one.__name__.removesuffix("Env").lower())
def env(request: pytest.FixtureRequest) -> Iterator[ControllerEnv]:
    with request.param.running() as env:
        yield env


@pytest.fixture
async def controller(env: ControllerEnv) -> AsyncIterator[Controller]:
    async with env.open() as controller:
        yield controller


async def test_check_names_the_product_and_its_version(controller: Controller) -> None:
    product, _, version = (await controller.check()).rpartition(" ")
    assert product
    assert version[0].isdigit()


async def test_switch_on_twice_is_done(env: ControllerEnv, controller: Controller) -> None:
    assert await controller.switch_on(env.device) == DONE
    assert env.is_on()
    assert await controller.switch_on(env.device) == DONE
    assert env.is_on()


async def test_switch_off_twice_is_done(env: ControllerEnv, controller: Controller) -> None:
    await controller.switch_on(env.device)
    assert await controller.switch_off(env.device) == DONE
    assert env.is_off()
    assert await controller.switch_off(env.device) == DONE
    assert env.is_off()


async def test_switch_on_after_switch_off_is_done(env: ControllerEnv, controller: Controller) -> None:
    for call in (controller.switch_on, controller.switch_off, controller.switch_on):
        assert await call(env.device) == DONE
    assert env.is_on()


async def test_switch_off_of_an_unseen_device_is_done(env: ControllerEnv, controller: Controller) -> None:
    assert await controller.switch_off(env.unseen) == DONE


async def test_switch_on_of_an_unseen_device_says_so(env: ControllerEnv, controller: Controller) -> None:
    with pytest.raises(DeviceNotSeenError):
        await controller.switch_on(env.unseen)


@each_call
async def test_call_of_a_stopped_controller_names_its_address(
    env: ControllerEnv, controller: Controller, call: Callable[[Controller, LineDevice], Awaitable[object]]
) -> None:
    env.stop()
    with pytest.raises(ControllerUnavailableError) as failure:
        await call(controller, env.device)
    assert env.endpoint().url.rpartition("/")[2] in str(failure.value)


@each_call
@with_credentials
async def test_call_with_wrong_credentials_says_so_and_shows_no_secret(
    env: ControllerEnv, call: Callable[[Controller, LineDevice], Awaitable[object]]
) -> None:
    async with env.open(wrong_secret=True) as controller:
        with pytest.raises(ControllerUnavailableError, match="credentials") as failure:
            await call(controller, env.device)
    assert env.endpoint(wrong_secret=True).secret not in str(failure.value)
    assert not env.is_on()


async def test_switch_on_of_an_unplugged_device_waits_for_it(env: ControllerEnv, controller: Controller) -> None:
    env.unplug()
    outcome = await controller.switch_on(env.device)
    assert outcome.waits_for
    assert not env.is_on()
    env.plug_in()
    assert await controller.switch_on(env.device) == DONE
    assert env.is_on()


async def test_switch_off_removes_what_waits_for_an_unplugged_device(
    env: ControllerEnv, controller: Controller
) -> None:
    env.unplug()
    await controller.switch_on(env.device)
    outcome = await controller.switch_off(env.device)
    assert outcome.waits_for or env.is_off()
    env.plug_in()
    assert await controller.switch_off(env.device) == DONE
    assert env.is_off()
    assert not env.is_on()


@pytest.mark.parametrize("on", [True, False], ids=["switch_on", "switch_off"])
async def test_repeated_call_after_each_lost_reply_converges(
    env: ControllerEnv, controller: Controller, on: bool
) -> None:
    """Lose the first reply of a call, in the next call the second one, and so on until a call loses none."""
    call, opposite = controller.switch_on, controller.switch_off
    if not on:
        call, opposite = opposite, call
    for answered in itertools.count():
        await opposite(env.device)
        env.lose_reply(answered)
        outcome: Outcome | None = None
        with suppress(ControllerUnavailableError):
            outcome = await call(env.device)
        if not env.lost_reply():
            assert outcome == DONE
            assert answered > 0
            break
        assert outcome is None, "a lost reply proves nothing"
        assert await call(env.device) == DONE
        assert env.is_on() if on else env.is_off()
